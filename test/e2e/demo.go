// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/isthmus-mesh/isthmus/lab"
)

// Options say where the demo finds things.
type Options struct {
	Repository string // root of the source tree: config/default is applied from there
	Build      string // folder of the binaries that `make build` made
	Scratch    string // folder for what the demo writes
	LabName    string // the lab that it makes; one of that name is taken down first
	Out        io.Writer
	// From is the step to begin with, on the lab that an earlier run left up; 0 makes a fresh lab and does all steps.
	From int
}

// demo is the state that the steps share.
type demo struct {
	Options
	*Report
	lab        *lab.Lab
	east, west *cluster
	installed  map[string]int32 // pods after the installation, and their restarts; nil if an earlier run installed
	marker     string           // sent with every request: must never be seen on the WAN
}

// images are the product's and the demo's, each made of one static binary.
var images = []string{"controller", "gateway", "nodeproxy", "agent", "demo-app"}

const (
	helloURL    = "http://hello.demo.svc.cluster.local/"
	onlyEastURL = "http://only-east.demo.svc.cluster.local/"
)

// Run makes the lab and does the demo's steps. The report holds what was checked; an error means that the demo could
// not go on. The lab stays up.
func Run(ctx context.Context, o Options) (*Report, error) {
	log.SetLogger(logr.Discard()) // the client library insists on one; what it would say is seen in the checks
	d := &demo{Options: o, Report: NewReport(o.Out), marker: "isthmus-marker-" + randomText()}
	steps := []struct {
		title string
		run   func(context.Context) error
	}{
		{"1. Two clusters with the same pod and service ranges", d.makeLab},
		{"2. Isthmus on both, linked", d.installBoth},
		{"3. One service, local; labelled global; local again", d.labelService},
		{"4. The tunnel, seen from outside", d.proveTunnel},
		{"5. Prefer what is close, fail over without a lost request", d.preferClose},
		{"6. A service that only the other cluster has", d.onlyEast},
		{"7. Unlink and link again", d.unlink},
		{"8. Bad input gets a reason, and the rest goes on", d.badInput},
	}
	for i, step := range steps {
		if i > 0 && i+1 < o.From {
			continue
		}
		d.Step("%s", step.title)
		if err := step.run(ctx); err != nil {
			d.Check(step.title, false, "%v", err)
			return d.Report, fmt.Errorf("%s: %w", step.title, err)
		}
	}
	return d.Report, nil
}

func randomText() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // does not fail
	return hex.EncodeToString(b)
}

// makeLab brings up a fresh lab and puts the images on its nodes, or opens the lab of an earlier run.
func (d *demo) makeLab(ctx context.Context) error {
	if d.From == 0 {
		if err := d.freshLab(ctx); err != nil {
			return err
		}
	}
	return d.openLab(ctx)
}

func (d *demo) freshLab(ctx context.Context) error {
	for _, args := range [][]string{
		{"down", "--name", d.LabName},
		{"up", "--name", d.LabName, "--clusters", "2", "--nodes", "1"},
		d.loadArguments(),
	} {
		cmd := exec.CommandContext(ctx, d.labBinary(), args...)
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
		cmd.WaitDelay = 20 * time.Second
		cmd.Stdout, cmd.Stderr = d.Out, d.Out
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("lab %s: %w", args[0], err)
		}
	}
	return nil
}

func (d *demo) openLab(ctx context.Context) error {
	l, err := lab.Open(d.LabName)
	if err != nil {
		return err
	}
	d.lab = l
	for _, c := range l.Clusters() {
		opened, err := openCluster(c, d.LabName, d.labBinary())
		if err != nil {
			return err
		}
		switch c.Name {
		case "east":
			d.east = opened
		case "west":
			d.west = opened
		}
	}
	if d.east == nil || d.west == nil {
		return fmt.Errorf("lab %s has no clusters east and west", d.LabName)
	}
	return d.checkRanges(ctx)
}

func (d *demo) loadArguments() []string {
	args := []string{"load", "--name", d.LabName}
	for _, name := range images {
		args = append(args, fmt.Sprintf("isthmus.dev/%s:dev=%s", name, filepath.Join(d.Build, name)))
	}
	return args
}

func (d *demo) labBinary() string { return filepath.Join(d.Build, "lab") }

// both runs f for the two clusters at once and gives the first error.
func (d *demo) both(f func(*cluster) error) error {
	failed := make(chan error, 2)
	for _, c := range []*cluster{d.east, d.west} {
		go func() { failed <- f(c) }()
	}
	first, second := <-failed, <-failed
	if first != nil {
		return first
	}
	return second
}
