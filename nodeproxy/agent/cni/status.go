// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
)

const (
	// errNotAvailable is the code for "the plugin cannot take ADD requests" (CNI specification 1.1, STATUS).
	errNotAvailable = 50
	// glance bounds STATUS and CHECK, which the runtime asks for often.
	glance = 5 * time.Second
	// Heartbeat is how often an agent that lives sets the time of its socket.
	Heartbeat = 30 * time.Second
	// absence is how long an agent may be away before the node's network counts as not ready. Kubernetes then takes all pods of the node out of service, which an
	// upgrade of the agent must not do: an image that has to be fetched first takes a minute or two.
	absence = 5 * time.Minute
)

// status says whether pods can start. While an agent is away for a short time they can: their starts wait for it.
func status(args *skel.CmdArgs) error {
	conf, err := readConfig(args)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), glance)
	defer cancel()
	err = ask(ctx, conf.Socket, http.MethodGet, StatusPath, nil)
	if !errors.Is(err, errAway) {
		return nil // whatever it says, even that it is too old to know the question: it is there
	}
	why := "no isthmus agent has run since the node was booted"
	if info, statErr := os.Stat(conf.Socket); statErr == nil {
		away := time.Since(info.ModTime())
		if away < absence {
			return nil
		}
		why = fmt.Sprintf("the isthmus agent has been away for %v", away.Round(time.Second))
	}
	return types.NewError(errNotAvailable, why+": pods of other namespaces than the excluded ones cannot start", err.Error())
}

// check says whether a pod is captured, if it should be, and by rules that are whole. While no agent answers, what was captured is so still: CRI-O, which asks about all pods when it starts, takes
// an error for the loss of a pod's network, and the kubelet makes the pod anew.
func check(args *skel.CmdArgs) error {
	conf, event, err := readPod(args)
	if err != nil {
		return err
	}
	if event.PodName == "" || slices.Contains(conf.ExcludeNamespaces, event.PodNamespace) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), glance)
	defer cancel()
	switch err := post(ctx, conf.Socket, CheckPath, event); {
	case errors.Is(err, errAway):
		return nil
	case err != nil:
		return types.NewError(types.ErrInternal, fmt.Sprintf("pod %s/%s: %v", event.PodNamespace, event.PodName, err), "")
	}
	return nil
}
