// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/isthmus-mesh/isthmus/lab"
)

// Options say where a run finds things.
type Options struct {
	Repository string // root of the source tree: config/default is applied from there
	Build      string // folder of the binaries that `make build` made
	Scratch    string // folder for what the run writes
	LabName    string // the lab that it makes; one of that name is taken down first
	Out        io.Writer
	// From is the step to begin with, on the lab that an earlier run left up; 0 makes a fresh lab and does all steps.
	From int
}

// stage is the clusters that a run plays on, and what it keeps of the play.
type stage struct {
	Options
	*Report
	lab      *lab.Lab
	clusters []*cluster // in the lab's order: east, west, north
	root     *rootCA    // what all clusters trust; nil if an earlier run installed
	marker   string     // sent with every request: must never be seen on the WAN
}

func newStage(o Options) stage {
	log.SetLogger(logr.Discard()) // the client library insists on one; what it would say is seen in the checks
	return stage{Options: o, Report: NewReport(o.Out), marker: "isthmus-marker-" + randomText()}
}

func randomText() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // does not fail
	return hex.EncodeToString(b)
}

// images are the product's and the demo's, each made of one static binary.
var images = []string{"controller", "gateway", "nodeproxy", "agent", "demo-app"}

// makeLab brings up a fresh lab of n clusters and puts the images on its nodes, or opens the lab of an earlier run.
func (s *stage) makeLab(ctx context.Context, n int) error {
	if s.From == 0 {
		if err := s.freshLab(ctx, n); err != nil {
			return err
		}
	}
	l, err := lab.Open(s.LabName)
	if err != nil {
		return err
	}
	s.lab = l
	for _, c := range l.Clusters() {
		opened, err := openCluster(c, s.LabName, s.labBinary())
		if err != nil {
			return err
		}
		s.clusters = append(s.clusters, opened)
	}
	if len(s.clusters) != n {
		return fmt.Errorf("lab %s has %d clusters, not %d", s.LabName, len(s.clusters), n)
	}
	return nil
}

func (s *stage) freshLab(ctx context.Context, n int) error {
	for _, args := range [][]string{
		{"down", "--name", s.LabName},
		{"up", "--name", s.LabName, "--clusters", fmt.Sprint(n), "--nodes", "1"},
		s.loadArguments(),
	} {
		cmd := exec.CommandContext(ctx, s.labBinary(), args...)
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
		cmd.WaitDelay = 20 * time.Second
		cmd.Stdout, cmd.Stderr = s.Out, s.Out
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("lab %s: %w", args[0], err)
		}
	}
	return nil
}

func (s *stage) loadArguments() []string {
	args := []string{"load", "--name", s.LabName}
	for _, name := range images {
		args = append(args, fmt.Sprintf("isthmus.dev/%s:dev=%s", name, filepath.Join(s.Build, name)))
	}
	return args
}

func (s *stage) labBinary() string { return filepath.Join(s.Build, "lab") }

// each runs f for all clusters at once.
func (s *stage) each(f func(*cluster) error) error {
	failed := make([]error, len(s.clusters))
	var all sync.WaitGroup
	for i, c := range s.clusters {
		all.Go(func() { failed[i] = f(c) })
	}
	all.Wait()
	return errors.Join(failed...)
}
