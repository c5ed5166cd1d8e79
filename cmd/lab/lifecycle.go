// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/isthmus-mesh/isthmus/lab"
	"github.com/spf13/cobra"
)

func buildCommand() *cobra.Command {
	var only []string
	command := &cobra.Command{
		Use:   "build",
		Short: "Fetch and build the programs that the clusters run",
		Long: `build makes Kubernetes, etcd, containerd, runc, the CNI plugins, CoreDNS and the pause program from Go modules into
the cache's bin directory. What is there already, from the same sources, is left alone. The first time takes
about ten minutes on two cores. Debian packages that are missing are installed if the caller is root.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return lab.Build(cmd.Context(), cmd.OutOrStdout(), only...)
		},
	}
	command.Flags().StringSliceVar(&only, "only", nil, "build only these: "+strings.Join(lab.ComponentNames(), ", "))
	return command
}

func upCommand(name *string) *cobra.Command {
	shape := lab.DefaultShape()
	var wan string
	command := &cobra.Command{
		Use:   "up",
		Short: "Make a lab, and wait until it can be used",
		Long: `up makes a lab and returns when all nodes are ready, DNS answers and pods can be created. It tells the time of each
stage. A lab that is up in the same shape is left as it is; one that is broken or half made is removed and made
again. When it fails or is interrupted, it removes what it has made.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			shape.WAN = lab.WAN(wan)
			if shape.WAN == lab.WANKernel {
				for _, flag := range []string{"delay", "jitter", "loss"} {
					if cmd.Flags().Changed(flag) {
						return fmt.Errorf("--%s needs --wan %s", flag, lab.WANEmulated)
					}
				}
				shape.Delay = 0
			}
			return lab.Up(cmd.Context(), lab.Options{Name: *name, Shape: shape, Progress: cmd.OutOrStdout()})
		},
	}
	flags := command.Flags()
	flags.IntVar(&shape.Clusters, "clusters", shape.Clusters, "number of clusters")
	flags.IntVar(&shape.Nodes, "nodes", shape.Nodes, "number of nodes of each cluster")
	flags.StringVar(&wan, "wan", string(lab.WANKernel), "how clusters are joined: kernel (fast) or emulated (with delay, jitter and loss)")
	flags.DurationVar(&shape.Delay, "delay", 20*time.Millisecond, "delay of the emulated WAN, one way")
	flags.DurationVar(&shape.Jitter, "jitter", 0, "most that the emulated WAN adds to the delay, at random")
	flags.Float64Var(&shape.Loss, "loss", 0, "share of packets that the emulated WAN loses, for example 0.01")
	return command
}

func downCommand(name *string) *cobra.Command {
	var all bool
	command := &cobra.Command{
		Use:   "down",
		Short: "Remove a lab and all that belongs to it",
		Long: `down removes a lab: processes, namespaces, mounts, cgroups and state. It needs nothing but the name, so it also removes
what a killed up has left behind. Removing a lab that does not exist is no error.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			names := []string{*name}
			if all {
				var err error
				if names, err = lab.Names(); err != nil {
					return err
				}
			}
			var errs []error
			for _, each := range names {
				began := time.Now()
				if err := lab.Down(cmd.Context(), each); err != nil {
					errs = append(errs, err)
					continue
				}
				fmt.Fprintf(cmd.OutOrStdout(), "lab %s is down, %.1f s\n", each, time.Since(began).Seconds())
			}
			return errors.Join(errs...)
		},
	}
	command.Flags().BoolVar(&all, "all", false, "remove every lab of this machine")
	return command
}

func statusCommand(name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Tell how the lab's machines are",
		Long:  `status lists clusters, nodes and LoadBalancer addresses, and fails if something of the lab is gone.`,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := open(*name)
			if err != nil {
				return err
			}
			table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintf(table, "%s\t\t%s\n", l.Name(), l.Shape())
			for _, line := range l.Status(cmd.Context()) {
				fmt.Fprintf(table, "%s\t%s\t%s\n", line.Name, line.Address, line.State)
			}
			if err := table.Flush(); err != nil {
				return err
			}
			return l.Fault(cmd.Context())
		},
	}
}

// open opens a lab for a command, as root.
func open(name string) (*lab.Lab, error) {
	if err := lab.RequireRoot(); err != nil {
		return nil, err
	}
	l, err := lab.Open(name)
	if errors.Is(err, lab.ErrNotUp) {
		return nil, fmt.Errorf("%w; make it with `lab up --name %s`", err, name)
	}
	return l, err
}
