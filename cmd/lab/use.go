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
	"sync"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/lab"
	"github.com/spf13/cobra"
)

func kubeconfigCommand(name *string) *cobra.Command {
	var internal bool
	command := &cobra.Command{
		Use:   "kubeconfig CLUSTER",
		Short: "Print a kubeconfig with full rights",
		Long: `kubeconfig prints a self-contained kubeconfig. By default it works in the host's own network namespace, through a
forwarder on 127.0.0.1; with --internal its server is the API server's address on the WAN, for pods of the other
clusters.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := open(*name)
			if err != nil {
				return err
			}
			c, err := l.Cluster(args[0])
			if err != nil {
				return err
			}
			get := c.Kubeconfig
			if internal {
				get = c.InternalKubeconfig
			}
			data, err := get()
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(data)
			return err
		},
	}
	command.Flags().BoolVar(&internal, "internal", false, "with the API server's address on the WAN")
	return command
}

func kubectlCommand(name *string) *cobra.Command {
	command := &cobra.Command{
		Use:     "kubectl CLUSTER [ARGUMENT...]",
		Short:   "Run kubectl against a cluster",
		Long:    `kubectl runs the lab's kubectl with full rights, in the host's own network namespace: port-forward listens there.`,
		Example: "  lab kubectl east get pods -A",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			l, err := open(*name)
			if err != nil {
				return err
			}
			c, err := l.Cluster(args[0])
			if err != nil {
				return err
			}
			return c.ExecKubectl(args[1:])
		},
	}
	command.Flags().SetInterspersed(false) // what follows the cluster is kubectl's
	return command
}

func execCommand(name *string) *cobra.Command {
	command := &cobra.Command{
		Use:   "exec -- COMMAND [ARGUMENT...]",
		Short: "Run a command in the network namespace of the WAN's client",
		Long: `exec runs a command where all API servers and LoadBalancer addresses can be reached, in place of itself: signals and
the exit status are the command's own.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			l, err := open(*name)
			if err != nil {
				return err
			}
			return l.Exec(args)
		},
	}
	command.Flags().SetInterspersed(false)
	return command
}

func nodeExecCommand(name *string) *cobra.Command {
	command := &cobra.Command{
		Use:     "node-exec CLUSTER/NODE -- COMMAND [ARGUMENT...]",
		Short:   "Run a command on a node",
		Long:    `node-exec runs a command in the namespaces of a node: its mounts, network, processes and host name.`,
		Example: "  lab node-exec east/n1 -- nft list ruleset",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			l, err := open(*name)
			if err != nil {
				return err
			}
			n, err := l.Node(args[0])
			if err != nil {
				return err
			}
			if args[1] == "--" { // what follows the node is not looked at
				args = args[1:]
			}
			if len(args) < 2 {
				return errors.New("no command")
			}
			cmd := exec.Command(args[1], args[2:]...)
			cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
			cmd.Dir = "/"
			return runOn(n, cmd)
		},
	}
	command.Flags().SetInterspersed(false)
	return command
}

// runOn runs a command on a node and passes signals on to it.
func runOn(n *lab.Node, cmd *exec.Cmd) error {
	signals := make(chan os.Signal, 8) // more than that before the command starts can be lost
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH)
	if err := n.Command(cmd); err != nil {
		signal.Stop(signals)
		return err
	}
	var passing sync.WaitGroup
	passing.Go(func() {
		for s := range signals {
			// It may have ended already; Wait says so.
			_ = cmd.Process.Signal(s)
		}
	})
	err := cmd.Wait()
	signal.Stop(signals)
	close(signals)
	passing.Wait()
	return err
}

func nodeCommand(name *string) *cobra.Command {
	command := &cobra.Command{Use: "node", Short: "Kill a node, or start it again"}
	act := func(use, short string, f func(context.Context, *lab.Node) error) *cobra.Command {
		return &cobra.Command{
			Use: use + " CLUSTER/NODE", Short: short, Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				l, err := open(*name)
				if err != nil {
					return err
				}
				n, err := l.Node(args[0])
				if err != nil {
					return err
				}
				return f(cmd.Context(), n)
			},
		}
	}
	command.AddCommand(
		act("kill", "Kill a node with all its pods at once, as a power failure would",
			func(_ context.Context, n *lab.Node) error { return n.Kill() }),
		act("start", "Start a killed node again, with the same disk",
			func(ctx context.Context, n *lab.Node) error { return n.Start(ctx) }),
	)
	return command
}

func loadCommand(name *string) *cobra.Command {
	var only []string
	command := &cobra.Command{
		Use:   "load REF=BINARY[,BINARY...]...",
		Short: "Build images from static binaries and put them into the nodes",
		Long: `load builds an image from each argument and imports it into all nodes of all clusters. The first binary is the
entrypoint. Each becomes /usr/local/bin/NAME, with a link /NAME, unless its place follows a colon. Any reference
works, also of a public registry: nodes have no registry and never ask one for an image that they have.`,
		Example: `  lab load isthmus.dev/gateway:dev=bin/gateway
  lab load example.com/echo:v1=bin/server,bin/client,testdata/tls.crt:/cert.crt`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var images []lab.Image
			for _, arg := range args {
				image, err := lab.ParseImage(arg)
				if err != nil {
					return err
				}
				images = append(images, image)
			}
			l, err := open(*name)
			if err != nil {
				return err
			}
			clusters := l.Clusters()
			if len(only) > 0 {
				clusters = nil
				for _, each := range only {
					c, err := l.Cluster(each)
					if err != nil {
						return err
					}
					clusters = append(clusters, c)
				}
			}
			for _, image := range images {
				began := time.Now()
				if err := l.LoadInto(cmd.Context(), image, clusters...); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "loaded %s, %.1f s\n", image.Ref, time.Since(began).Seconds())
			}
			return nil
		},
	}
	command.Flags().StringSliceVar(&only, "cluster", nil, "only into these clusters")
	return command
}
