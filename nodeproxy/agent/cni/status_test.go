// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestStatus: an agent that is away for a short time is no reason to take a node out of service, one that never came or stays away is.
func TestStatus(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "cni.sock")
	expect := func(step, refusal string) {
		t.Helper()
		out, err := plugin(t, "STATUS", socket, "", 0)
		if (err == nil) != (refusal == "") || !strings.Contains(out, refusal) || refusal != "" && !strings.Contains(out, `"code": 50`) {
			t.Errorf("%s: %v, %s; want %q", step, err, out, refusal)
		}
	}
	expect("before the first agent", "since the node was booted")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	var asked string
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.Method + " " + r.URL.Path
		http.NotFound(w, r) // an agent of an earlier version
	})}
	go func() { _ = server.Serve(l) }()
	long := time.Now().Add(-2 * absence)
	if err := os.Chtimes(socket, long, long); err != nil {
		t.Fatal(err)
	}
	expect("while one answers", "")
	if asked != "GET "+StatusPath {
		t.Errorf("asked %q", asked)
	}
	server.Close()
	expect("long away", "has been away for 10m")
	now := time.Now()
	if err := os.Chtimes(socket, now, now); err != nil {
		t.Fatal(err)
	}
	expect("away since a moment", "")
}

func TestCheck(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "cni.sock")
	expect := func(step, namespace, refusal string) {
		t.Helper()
		out, err := plugin(t, "CHECK", socket, namespace, 0)
		if (err == nil) != (refusal == "") || !strings.Contains(out, refusal) {
			t.Errorf("%s: %v, %s; want %q", step, err, out, refusal)
		}
	}
	expect("without an agent", "shop", "")
	expect("an excluded namespace", "kube-system", "")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	answer := ""
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if e, err := ReadEvent(r.Body); err != nil || e.PodUID != "u1" || r.URL.Path != CheckPath {
			t.Errorf("event %+v, %v, path %s", e, err, r.URL.Path)
		}
		if answer != "" {
			http.Error(w, answer, http.StatusInternalServerError)
		}
	})}
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	expect("as it should be", "shop", "")
	answer = "its rules are damaged: table isthmus-nat is missing"
	expect("damaged", "shop", answer)
	server.Close()
	expect("while the agent is replaced", "shop", "")
}
