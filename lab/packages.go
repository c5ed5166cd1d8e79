// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// debianPackage is something that no Go module gives us.
type debianPackage struct {
	name  string
	why   string
	probe []string // succeeds if it is there
}

// buildPackages are for runc's seccomp filter, which is cgo.
var buildPackages = []debianPackage{
	{"gcc", "the C compiler for runc", []string{"gcc", "--version"}},
	{"libc6-dev", "the C library's headers for runc", []string{"gcc", "-xc", "-fsyntax-only", "-include", "stdio.h", "/dev/null"}},
	{"pkg-config", "finds libseccomp for runc", []string{"pkg-config", "--version"}},
	{"libseccomp-dev", "system call filters of runc", []string{"pkg-config", "--exists", "libseccomp"}},
}

// runPackages are for what runs on the nodes.
var runPackages = []debianPackage{
	{"nftables", "kube-proxy calls nft", []string{"nft", "--version"}},
}

// requirePackages installs what is missing, where it can, and otherwise says what to install.
func requirePackages(ctx context.Context, progress io.Writer, packages []debianPackage) error {
	var missing, reasons []string
	for _, p := range packages {
		if err := exec.CommandContext(ctx, p.probe[0], p.probe[1:]...).Run(); err != nil {
			missing = append(missing, p.name)
			reasons = append(reasons, fmt.Sprintf("%s (%s)", p.name, p.why))
		}
	}
	if len(missing) == 0 {
		return nil
	}
	apt, err := exec.LookPath("apt-get")
	if err != nil || os.Geteuid() != 0 {
		return fmt.Errorf("missing on this machine: %s; install what your distribution calls it, for example `apt-get install %s`",
			strings.Join(reasons, ", "), strings.Join(missing, " "))
	}
	fmt.Fprintf(progress, "install %s\n", strings.Join(missing, " "))
	for _, arguments := range [][]string{{"update"}, append([]string{"install", "--yes", "--no-install-recommends"}, missing...)} {
		cmd := exec.CommandContext(ctx, apt, append([]string{"--quiet"}, arguments...)...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if output, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get %s: %w\n%s", strings.Join(arguments, " "), err, bytes.TrimSpace(output))
		}
	}
	return nil
}
