// SPDX-License-Identifier: Apache-2.0

//go:build netns

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/go-logr/logr"

	"github.com/isthmus-mesh/isthmus/internal/zds"
)

// stage is a node for one command: a control plane, an agent, directories, and two pods that are linked, till-0 and cart-0. All of the service cart is cart-0.
type stage struct {
	plane          *plane
	agent          *zds.Server
	controller     string
	run, keys      string // directories: the node's, and one in memory
	ready, metrics string
	// args are the command's.
	args []string
	// cart and till are the pods' namespaces, once there are pods.
	cart, till *os.File
}

func newStage(t *testing.T) *stage {
	t.Helper()
	dir := t.TempDir()
	s := &stage{plane: newPlane(t), run: filepath.Join(dir, "run"), ready: free(t), metrics: free(t)}
	s.plane.pod("till-0", "till", "10.77.0.3", nil)
	s.controller = s.plane.start(t, "")
	var err error
	if s.keys, err = os.MkdirTemp("/dev/shm", "isthmus-test-*"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(s.keys) })
	if err := os.Mkdir(s.run, 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "root.pem"), s.plane.signer.RootPEM())
	writeFile(t, filepath.Join(dir, "token"), "the token\n")
	writeFile(t, filepath.Join(dir, "resolv.conf"), "nameserver 127.0.0.53\n")
	s.agent = zds.NewServer(filepath.Join(s.run, "zds.sock"), logr.Discard())
	done := make(chan error, 1)
	go func() { done <- s.agent.Run(t.Context()) }()
	t.Cleanup(func() { <-done })
	s.args = []string{
		"--controller=" + s.controller, "--network=east", "--cluster-id=east", "--zds-socket=" + filepath.Join(s.run, "zds.sock"),
		"--token-path=" + filepath.Join(dir, "token"), "--root-ca=" + filepath.Join(dir, "root.pem"), "--resolv-conf=" + filepath.Join(dir, "resolv.conf"),
		"--ready-address=" + s.ready, "--metrics-address=" + s.metrics, "--admin-address=" + free(t), "--state-dir=" + filepath.Join(s.run, "state"), "--keys-dir=" + s.keys,
		"--drain=5s", "--v=1",
	}
	return s
}

// addPods hands the pods over to the proxy, which must run.
func (s *stage) addPods(t *testing.T) {
	t.Helper()
	s.cart = newPod(t)
	s.till = neighbour(t, s.cart, "10.77.0.3")
	for name, space := range map[string]*os.File{"cart": s.cart, "till": s.till} {
		w := zds.Workload{UID: name, Name: name + "-0", Namespace: "shop", ServiceAccount: name}
		eventually(t, "the agent's answer", func() error { return s.agent.Add(t.Context(), w, space) })
	}
}

// call lets till ask cart.
func (s *stage) call() error { return fetch(s.till, "10.96.0.1:80", "hello from the pod") }

func (s *stage) isReady(text string) func() error {
	return func() error { return get("http://"+s.ready+"/healthz/ready", text) }
}

// snapshot is the file that is kept.
func (s *stage) snapshot() error {
	_, err := os.Stat(filepath.Join(s.run, "state", "discovery.snapshot"))
	return err
}

func (s *stage) measured(t *testing.T, all ...string) {
	t.Helper()
	for _, want := range all {
		if err := get("http://"+s.metrics+"/metrics", want); err != nil {
			t.Error(err)
		}
	}
}
