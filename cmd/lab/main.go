// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := root().ExecuteContext(ctx)
	interrupted := ctx.Err() != nil
	stop()
	if err == nil {
		return
	}
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		// The command that was asked for has said what it had to say; its status is ours.
		if status, ok := ended.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			os.Exit(128 + int(status.Signal()))
		}
		os.Exit(ended.ExitCode())
	}
	fmt.Fprintf(os.Stderr, "lab: %v\n", err)
	if interrupted {
		os.Exit(130)
	}
	os.Exit(1)
}

func root() *cobra.Command {
	var name string
	command := &cobra.Command{
		Use:   "lab",
		Short: "Real Kubernetes clusters on this machine",
		Long: `lab runs real Kubernetes clusters on one Linux machine: kube-apiserver, kubelet, containerd, runc, kube-proxy and
CoreDNS in network and mount namespaces, joined by a WAN on which only node and LoadBalancer addresses exist. It
needs root, but no container engine, no registry and no virtual machine, and adds nothing to the host's own network.

The clusters are called east, west, north, south, c5, c6 and so on. All have pods in 10.244.0.0/16 and services in
10.96.0.0/16. Cluster number N has its machines in 10.89.N.0/24 (API server 10.89.N.10:6443, nodes from .11) and its
LoadBalancer addresses in 10.89.(100+N).0/24.

Built programs and the labs' state live in $ISTHMUS_CACHE, by default .cache in the repository.`,
		Example: `  lab up                              # two clusters of one node each
  lab kubectl west get pods -A
  lab load isthmus.dev/app:dev=bin/app
  lab exec -- curl http://10.89.102.1  # from the WAN's client
  lab down`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	command.PersistentFlags().StringVar(&name, "name", "lab", "the lab's name; labs of different names live side by side")
	command.AddCommand(
		buildCommand(), upCommand(&name), downCommand(&name), statusCommand(&name), kubeconfigCommand(&name), kubectlCommand(&name),
		execCommand(&name), nodeExecCommand(&name), nodeCommand(&name), loadCommand(&name), imageCommand(), internalCommand(),
	)
	return command
}
