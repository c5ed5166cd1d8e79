// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"errors"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// part is a part of an answer, as it is received.
func part(t *testing.T, c *Client, url string, more bool, removed []string, entries ...*entry) error {
	t.Helper()
	_, err := c.apply(heard(t, &response{url: url, nonce: "1", entries: entries, removed: removed, more: more}))
	return err
}

// TestNothingIsSeenBeforeAllWasSaid has a control plane take its time: what is seen until it has said all is the snapshot, to the letter, and then just what it said.
func TestNothingIsSeenBeforeAllWasSaid(t *testing.T) {
	former := trusting()
	path := saved(t, former)
	newer := mesh.NewSnapshot()
	pod := *samplePod()
	pod.Unhealthy = !pod.Unhealthy
	added := &mesh.Workload{UID: "new", Name: "new", Namespace: "shop", TrustDomain: "cluster.local", ServiceAccount: "a", Cluster: "east", Capacity: 1}
	newer.Workloads[pod.UID], newer.Workloads[added.UID] = &pod, added
	entryOf := func(w *mesh.Workload) *entry {
		t.Helper()
		e, err := workloadEntry(w)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}

	m := newMirror()
	c := alone(m)
	if err := part(t, c, addressURL, true, nil, entryOf(&pod)); err != nil || m.count() != 0 {
		t.Fatalf("%v, applied %d times before all was said", err, m.count())
	}
	if _, err := c.Restore(path, here, time.Hour); err != nil {
		t.Fatal(err)
	}
	m.await(t, former)
	// On its next stream the control plane goes on, and says what is gone by now.
	gone := []string{sampleSplitHorizon().UID, sampleService().Key().String()}
	failed := errors.New("not now")
	for _, say := range []func() error{
		func() error { return part(t, c, addressURL, true, nil, entryOf(added)) },
		func() error { return part(t, c, bundleURL, false, []string{sampleBundle().TrustDomain}) },
		func() error { return part(t, c, addressURL, false, gone) },
		func() error {
			m.refuse = func(mesh.Delta) error { return failed }
			defer func() { m.refuse = nil }()
			if err := part(t, c, authorizationURL, false, []string{samplePolicy().Key()}); !errors.Is(err, failed) {
				t.Errorf("what could not be applied: %v", err)
			}
			return nil
		},
	} {
		if err := say(); err != nil {
			t.Fatal(err)
		}
		m.await(t, former)
		select {
		case <-c.Synced():
			t.Fatal("synced before all was applied")
		default:
		}
	}
	if err := part(t, c, authorizationURL, false, nil); err != nil {
		t.Fatal(err)
	}
	<-c.Synced()
	m.await(t, newer)
	if m.count() != 2 {
		t.Errorf("applied in %d steps, want the snapshot and the control plane's word", m.count())
	}
	// From here on each response counts by itself.
	if err := part(t, c, addressURL, true, []string{added.UID}); err != nil || m.count() != 3 {
		t.Errorf("%v, applied %d times", err, m.count())
	}
}

// TestWhatWasTakenBackBeforeTheSnapshot has a control plane say something, and take it back, before it has said all. The snapshot, which comes then, has it: it is there until the
// control plane is asked about it on the next stream.
func TestWhatWasTakenBackBeforeTheSnapshot(t *testing.T) {
	former := trusting()
	path := saved(t, former)
	w := samplePod()
	e, err := workloadEntry(w)
	if err != nil {
		t.Fatal(err)
	}
	m := newMirror()
	c := alone(m)
	for _, err := range []error{
		part(t, c, addressURL, true, nil, e),
		part(t, c, addressURL, true, []string{w.UID}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Restore(path, here, time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, said := c.hello(Addresses()).InitialResourceVersions[w.UID]; !said {
		t.Error("it is not said that it is known")
	}
	// It is there again by then, as it was, and so it is not told.
	for _, typ := range c.options.Types {
		if err := part(t, c, typ.url, false, nil); err != nil {
			t.Fatal(err)
		}
	}
	<-c.Synced()
	m.await(t, former)
}
