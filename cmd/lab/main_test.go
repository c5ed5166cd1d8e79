// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// What is wrong with a command line is said before anything is done, and by name.
func TestBadCommandLines(t *testing.T) {
	t.Setenv("ISTHMUS_CACHE", t.TempDir())
	for _, test := range []struct{ line, want string }{
		{"up --name a-b", `lab name "a-b"`},
		{"up --clusters 0", "0 clusters"},
		{"up --clusters 99", "99 clusters"},
		{"up --nodes 0", "0 nodes"},
		{"up --wan tape", `wan "tape"`},
		{"up --delay 5ms", "--delay needs --wan emulated"},
		{"up --wan emulated --loss 2", "loss 2"},
		{"up east", `unknown command "east"`},
		{"build --only docker", `no component "docker"`},
		{"kubeconfig", "accepts 1 arg"},
		{"kubeconfig east", "the lab is not up"},
		{"kubectl", "requires at least 1 arg"},
		{"exec", "requires at least 1 arg"},
		{"node-exec east/n1", "requires at least 2 arg"},
		{"load", "requires at least 1 arg"},
		{"load app", `image "app"`},
		{"load isthmus.dev/app:latest=x", "latest"},
		{"sing", `unknown command "sing"`},
	} {
		t.Run(test.line, func(t *testing.T) {
			command := root()
			command.SetArgs(strings.Fields(test.line))
			command.SetOut(&bytes.Buffer{})
			err := command.ExecuteContext(t.Context())
			if err == nil {
				t.Fatal("no error")
			}
			if strings.Contains(err.Error(), "needs root") {
				t.Skipf("not root: %v", err)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

// Every command and flag that users see says what it does.
func TestHelp(t *testing.T) {
	var check func(command *cobra.Command)
	check = func(command *cobra.Command) {
		if command.Hidden {
			return
		}
		if command.Short == "" {
			t.Errorf("%s has no description", command.CommandPath())
		}
		for _, each := range command.Commands() {
			check(each)
		}
	}
	check(root())
	var out bytes.Buffer
	command := root()
	command.SetArgs([]string{"--help"})
	command.SetOut(&out)
	if err := command.Execute(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"up", "down", "status", "kubeconfig", "kubectl", "exec", "node-exec", "load", "build"} {
		if !strings.Contains(out.String(), "\n  "+name) {
			t.Errorf("help does not show %s:\n%s", name, out.String())
		}
	}
	if strings.Contains(out.String(), "internal") {
		t.Error("help shows the lab's own processes")
	}
}
