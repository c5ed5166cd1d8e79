// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
	"github.com/isthmus-mesh/isthmus/lab"
)

const (
	systemNamespace = "isthmus-system"
	demoNamespace   = "demo"
	gatewayName     = "eastwest"
)

// cluster is one cluster of the lab with the clients that the demo needs.
type cluster struct {
	*lab.Cluster
	labBinary string
	labName   string
	client    client.Client
	clientset *kubernetes.Clientset
}

func openCluster(c *lab.Cluster, labName, labBinary string) (*cluster, error) {
	config, err := c.RESTConfig()
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", c.Name, err)
	}
	config.QPS, config.Burst = 100, 200
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, gatewayv1.Install, v1alpha1.AddToScheme} {
		if err := add(s); err != nil {
			return nil, err
		}
	}
	cl, err := client.New(config, client.Options{Scheme: s})
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", c.Name, err)
	}
	cs, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", c.Name, err)
	}
	return &cluster{Cluster: c, labBinary: labBinary, labName: labName, client: cl, clientset: cs}, nil
}

// kubectlCommand is `lab kubectl CLUSTER args…`, what a user would type.
func (c *cluster) kubectlCommand(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.labBinary, append([]string{"kubectl", "--name", c.labName, c.Name}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	return cmd
}

// kubectl runs it and gives what it printed.
func (c *cluster) kubectl(ctx context.Context, stdin string, args ...string) (string, error) {
	cmd := c.kubectlCommand(ctx, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("kubectl %s in %s: %w: %s", strings.Join(args, " "), c.Name, err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// apply applies a manifest, with ${CLUSTER} replaced by the cluster's name.
func (c *cluster) apply(ctx context.Context, manifest string) error {
	_, err := c.kubectl(ctx, strings.ReplaceAll(manifest, "${CLUSTER}", c.Name), "apply", "-f", "-")
	return err
}
