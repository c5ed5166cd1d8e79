// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/redirect"
)

// Uninstall takes everything off this node that agents put there: the CNI plugin, the rules in all network namespaces, the node's
// rules for probes, and the pods' annotations. Pods go on running, outside the mesh. It goes on after errors and gives all of them.
// No agent may run on the node meanwhile.
func Uninstall(ctx context.Context, o Options) error {
	_, crio := processNamed(o.Proc, "crio")
	if crio {
		o.Log.Info("the CNI plugin's binary stays: CRI-O ends pods by the list of plugins that they began with", "directory", o.CNIBinDir)
	}
	errs := []error{o.installation().Uninstall(crio)}
	node, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	defer node.Close()
	errs = append(errs, removeEverywhere(o.Proc), redirect.NewProbes(node, 0).Close())

	list, err := o.Client.CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("spec.nodeName", o.NodeName).String()})
	if err != nil {
		return errors.Join(append(errs, fmt.Errorf("list the node's pods: %w", err))...)
	}
	for i := range list.Items {
		errs = append(errs, annotateCapture(ctx, o.Client, &list.Items[i], ""))
	}
	return errors.Join(errs...)
}

// removeEverywhere removes the rules from every network namespace that a process is in, except the node's own. By processes and not by
// pods: a pod whose object is gone may still run.
func removeEverywhere(proc string) error {
	paths, err := filepath.Glob(filepath.Join(proc, "[0-9]*", "ns", "net"))
	if err != nil {
		return err
	}
	own, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	seen := map[string]bool{own: true}
	var errs []error
	for _, path := range paths {
		name, err := os.Readlink(path)
		if err != nil || seen[name] {
			continue // the process has ended, or its namespace is done
		}
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		seen[name] = true
		if err := redirect.Remove(f); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		f.Close()
	}
	return errors.Join(errs...)
}
