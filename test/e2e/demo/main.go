// SPDX-License-Identifier: Apache-2.0

// Command demo is `make demo`: the main job of Isthmus on two real clusters, each step checked. It exits with 1 when a
// check failed, leaves the lab up, and says what to try next; with --down it takes the lab down again, as CI does. With --journey it is `make journey`: three
// clusters that change under traffic.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/isthmus-mesh/isthmus/test/e2e"
)

func main() {
	down := flag.Bool("down", false, "take the lab down at the end")
	name := flag.String("name", "", "name of the lab; one of that name is taken down first (default demo, or journey)")
	journey := flag.Bool("journey", false, "not the demo, but three clusters that change under traffic")
	from := flag.Int("from", 0, "begin with this step on the lab that an earlier run left up (2 to 8); 0 is a fresh lab and all steps")
	flag.Parse()
	if flag.NArg() != 0 || *from < 0 || *from > 8 || *journey && *from != 0 {
		fmt.Fprintln(os.Stderr, "usage: demo [--journey] [--name NAME] [--from STEP] [--down]")
		os.Exit(2)
	}
	play, next := e2e.Run, e2e.WhatNext
	if *journey {
		play, next = e2e.RunJourney, nil
	}
	if *name == "" {
		*name = "demo"
		if *journey {
			*name = "journey"
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, play, next, *name, *from, *down))
}

func run(ctx context.Context, play func(context.Context, e2e.Options) (*e2e.Report, error), next func(e2e.Options) string, name string, from int, down bool) (code int) {
	options, err := e2e.DefaultOptions(name, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		return 1
	}
	options.From = from
	if down {
		defer func() {
			cmd := exec.Command(filepath.Join(options.Build, "lab"), "down", "--name", name) //nolint:noctx // must run also after an interrupt
			cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
			if err := cmd.Run(); err != nil {
				fmt.Fprintln(os.Stderr, "demo: lab down:", err)
				code = 1
			}
		}()
	}
	report, err := play(ctx, options)
	passed, all := report.Passed()
	fmt.Printf("\nchecks: %d passed, %d failed\n", passed, all-passed)
	for _, c := range report.Failed() {
		fmt.Printf("  FAIL %s (%s)\n", c.Name, c.Detail)
	}
	if err != nil || passed != all {
		return 1
	}
	if !down && next != nil {
		fmt.Print(next(options))
	}
	return 0
}
