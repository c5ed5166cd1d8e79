// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// TestProcessorOfWhatHasEnded: a control that has ended must not count as one that needs nothing.
func TestProcessorOfWhatHasEnded(t *testing.T) {
	if _, err := processorOf(os.Getpid()); err != nil {
		t.Error(err)
	}
	child := exec.CommandContext(t.Context(), "true")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = child.Wait() }()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := processorOf(child.Process.Pid); err != nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal("a child that has ended still counts")
		}
	}
}

// TestDiscoveryPlaneAnswersProxies starts what all rows of discovery start: the controller as it ships, beside a simulated cluster, and more proxies on one
// address than may show it bad tokens. A row that nobody runs for a while must not have come apart meanwhile.
func TestDiscoveryPlaneAnswersProxies(t *testing.T) {
	t.Chdir("../..") // rows are run there
	p, err := newDiscoveryPlane(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	proxies, leave := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer func() {
		leave()
		running.Wait()
		if err := p.close(); err != nil {
			t.Error(err)
		}
	}()
	if err := p.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := p.connect(proxies, &running, 150); err != nil {
		t.Fatal(err)
	}
}
