// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/isthmus-mesh/isthmus/test/e2e"
)

// demoLab is a lab of the row's own, so that it leaves alone the one that a user's demo left up.
const demoLab = "scoreboard"

// demo runs the main job and counts the checks that passed. The goal is all of them. Some of its checks are controls
// of others, so there is no control beside the count.
func demo(ctx context.Context, out io.Writer) (result, error) {
	setUp := exec.CommandContext(ctx, "make", "demo-setup")
	setUp.Stdout, setUp.Stderr = out, os.Stderr
	if err := setUp.Run(); err != nil {
		return result{}, fmt.Errorf("make demo-setup: %w", err)
	}
	options, err := e2e.DefaultOptions(demoLab, out)
	if err != nil {
		return result{}, err
	}
	report, err := e2e.Run(ctx, options)
	passed, all := report.Passed()
	down := exec.CommandContext(context.WithoutCancel(ctx), filepath.Join(options.Build, "lab"), "down", "--name", demoLab)
	down.Stdout, down.Stderr = out, os.Stderr
	if downErr := down.Run(); err == nil && downErr != nil {
		err = fmt.Errorf("lab down: %w", downErr)
	}
	if err != nil {
		return result{}, fmt.Errorf("%d of %d checks passed: %w", passed, all, err)
	}
	return result{Value: float64(passed), Unit: "checks passed", Goal: float64(all), Pass: passed == all}, nil
}
