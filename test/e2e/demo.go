// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
)

// demo is the state that the steps share.
type demo struct {
	stage
	east, west *cluster
	installed  map[string]int32 // pods after the installation, and their restarts; nil if an earlier run installed
}

const (
	helloURL    = "http://hello.demo.svc.cluster.local/"
	onlyEastURL = "http://only-east.demo.svc.cluster.local/"
)

// Run makes the lab and does the demo's steps. The report holds what was checked; an error means that the demo could
// not go on. The lab stays up.
func Run(ctx context.Context, o Options) (*Report, error) {
	d := &demo{stage: newStage(o)}
	steps := []struct {
		title string
		run   func(context.Context) error
	}{
		{"1. Two clusters with the same pod and service ranges", d.makeTwo},
		{"2. Isthmus on both, linked", d.installTwo},
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

func (d *demo) makeTwo(ctx context.Context) error {
	if err := d.makeLab(ctx, 2); err != nil {
		return err
	}
	d.east, d.west = d.clusters[0], d.clusters[1]
	return d.checkRanges(ctx)
}

func (d *demo) installTwo(ctx context.Context) error {
	if err := d.installAll(ctx); err != nil {
		return err
	}
	var err error
	d.installed, err = d.pods(ctx)
	return err
}
