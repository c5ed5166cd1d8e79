// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strconv"

	"github.com/go-logr/logr"
	"github.com/go-logr/stdr"
	"github.com/isthmus-mesh/isthmus/lab"
	"github.com/spf13/cobra"
)

// internalCommand holds the processes of a lab, which the lab starts itself.
func internalCommand() *cobra.Command {
	command := &cobra.Command{Use: "internal", Short: "The lab's own processes", Hidden: true}
	process := func(use string, arguments int, f func(ctx context.Context, log logr.Logger, args []string) error) *cobra.Command {
		return &cobra.Command{Use: use, Args: cobra.ExactArgs(arguments), RunE: func(cmd *cobra.Command, args []string) error {
			return f(cmd.Context(), stdr.New(log.New(os.Stderr, "", log.LstdFlags|log.LUTC|log.Lmicroseconds)), args)
		}}
	}
	command.AddCommand(
		process("machine LAB CLUSTER INDEX", 3, func(ctx context.Context, log logr.Logger, args []string) error {
			index, err := strconv.Atoi(args[2])
			if err != nil {
				return fmt.Errorf("index: %w", err)
			}
			return lab.RunMachine(ctx, log, args[0], args[1], index)
		}),
		process("load-balancer LAB CLUSTER", 2, func(ctx context.Context, log logr.Logger, args []string) error {
			return lab.RunLoadBalancer(ctx, log, args[0], args[1])
		}),
		process("forward LAB", 1, func(ctx context.Context, log logr.Logger, args []string) error {
			return lab.RunForwarder(ctx, log, args[0])
		}),
		process("wan LAB", 1, func(ctx context.Context, log logr.Logger, args []string) error {
			return lab.RunWAN(ctx, log, args[0])
		}),
	)
	return command
}
