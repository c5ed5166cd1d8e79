// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Exec replaces the calling process by a command in the client's network namespace. It returns only on failure.
func (l *Lab) Exec(argv []string) error {
	program, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	// The thread that calls execve is the one that goes on, with its namespaces.
	runtime.LockOSThread()
	if err := enter(l.ClientNamespace(), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return err
	}
	return fmt.Errorf("execute %s: %w", program, unix.Exec(program, argv, os.Environ()))
}

// ExecKubectl replaces the calling process by kubectl, with full rights in the cluster. It returns only on failure.
func (c *Cluster) ExecKubectl(arguments []string) error {
	data, err := c.Kubeconfig()
	if err != nil {
		return err
	}
	config := c.places.box(c.Name, "kubectl.kubeconfig")
	if err := writeFile(config, data, 0o600); err != nil {
		return err
	}
	// Without its own cache directory, kubectl leaves one in the caller's home.
	env := []string{"KUBECONFIG=" + config, "KUBECACHEDIR=" + filepath.Join(c.places.state(), "kubectl-cache")}
	for _, variable := range os.Environ() {
		// The first of two would win, and the caller's is not meant.
		if !strings.HasPrefix(variable, "KUBECONFIG=") && !strings.HasPrefix(variable, "KUBECACHEDIR=") {
			env = append(env, variable)
		}
	}
	program := c.places.tool("kubectl")
	return fmt.Errorf("execute %s: %w", program, unix.Exec(program, append([]string{"kubectl"}, arguments...), env))
}
