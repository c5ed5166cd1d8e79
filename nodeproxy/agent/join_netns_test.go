// SPDX-License-Identifier: Apache-2.0

//go:build netns

package agent

import (
	"context"
	"os"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/zds"
	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/redirect"
	"github.com/isthmus-mesh/isthmus/test/netspace"
)

// observer is a proxy that notes whether the pods that it is told of were captured already.
type observer struct {
	*proxy
	captured map[string][]bool // by uid; guarded by the proxy's mu
}

func (o *observer) Add(ctx context.Context, w zds.Workload, netns *os.File) error {
	captured, err := redirect.Captured(netns)
	if err != nil {
		netns.Close()
		return err
	}
	o.mu.Lock()
	o.captured[w.UID] = append(o.captured[w.UID], captured)
	o.mu.Unlock()
	return o.proxy.Add(ctx, w, netns)
}

// TestRunningPodIsServedBeforeItIsCaptured: nothing that a pod begins while it joins is refused.
func TestRunningPodIsServedBeforeItIsCaptured(t *testing.T) {
	n := newNode(t, namespace("shop", ""))
	pod, sandbox := n.pod(1, "10.1.0.1", nil), n.sandbox("10.1.0.1")
	n.process(uidOf(1), sandbox)
	n.start()
	o := &observer{proxy: newProxy(), captured: map[string][]bool{}}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- zds.Run(ctx, n.options.ZDSSocket, zds.Proxy{}, o, n.options.Log.WithName("proxy")) }()
	t.Cleanup(func() { cancel(); <-ended })
	n.until("the snapshot", func() bool { return o.snapshots() == 1 })
	n.label(pod, modeAmbient)
	n.until("the pod to join", func() bool {
		return tables(t, sandbox) == allTables && n.annotation(pod) == redirectionEnabled && o.served(pod)
	})
	o.mu.Lock()
	defer o.mu.Unlock()
	if told := o.captured[uidOf(1)]; len(told) == 0 || told[0] {
		t.Errorf("each time that the proxy was told, the pod was captured: %v", told)
	}
}

// again opens the namespace once more, for one who closes it.
func again(t *testing.T, netns *os.File) *os.File {
	f, err := os.Open(path(netns))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestProbesOfWhoHasTheAddress: the kubelet's probes reach whoever has an address by now, and whoever may have it still.
func TestProbesOfWhoHasTheAddress(t *testing.T) {
	const addr = "10.1.0.1"
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	n := newNode(t, namespace("shop", ""))
	begin := func() *enrolment {
		probes := redirect.NewProbes(own, 0)
		if err := probes.Reset(nil); err != nil {
			t.Fatal(err)
		}
		return newEnrolment(n.options.Log, true, zds.NewServer(n.options.ZDSSocket, n.options.Log), probes)
	}
	first, second := n.pod(1, addr, nil), n.pod(2, addr, nil)

	// Its end is heard of while the next one is being captured.
	e := begin()
	if err := e.capture(first, again(t, n.sandbox(addr)), podAddresses(first)); err != nil {
		t.Fatal(err)
	}
	if err := e.probe(workloadOf(second), podAddresses(second)); err != nil {
		t.Fatal(err)
	}
	if err := e.forget(t.Context(), string(first.UID)); err != nil {
		t.Fatal(err)
	}
	if got := probed(t); got != addr {
		t.Errorf("a pod that is coming: probed %q", got)
	}
	e.abandon(string(second.UID))
	if got := probed(t); got != "" {
		t.Errorf("nobody is there: probed %q", got)
	}
	e.close()

	// One that was captured by an earlier agent cannot be captured again.
	e = begin()
	if err := e.probes.Reset(podAddresses(first)); err != nil {
		t.Fatal(err)
	}
	if err := e.keep(first); err != nil {
		t.Fatal(err)
	}
	down, err := netspace.New() // whose lo is down, so that nothing can be routed there
	if err != nil {
		t.Fatal(err)
	}
	if err := e.capture(first, down, podAddresses(first)); err == nil {
		t.Fatal("it was captured")
	}
	if got := probed(t); got != addr {
		t.Errorf("a pod that is kept: probed %q", got)
	}
}

// A pod that an agent cannot capture at its start goes on being probed. One that terminates is not tried again, so that nobody would put its address back.
func TestProbesOfWhoCannotBeCapturedAtStart(t *testing.T) {
	n := newNode(t, namespace("shop", modeAmbient))
	pod, sandbox := n.pod(1, "10.1.0.1", nil), n.sandbox("10.1.0.1")
	h, lo := loopback(t, sandbox)
	if err := h.LinkSetDown(lo); err != nil { // so that nothing can be routed there
		t.Fatal(err)
	}
	n.process(uidOf(1), sandbox)
	n.delete(pod)
	n.start()
	p, _ := n.startProxy()
	n.until("the snapshot", func() bool { return p.snapshots() == 1 })
	if got := probed(t); got != "10.1.0.1" {
		t.Errorf("probed %q", got)
	}
}
