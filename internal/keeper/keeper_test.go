// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds"
)

func newTestKeeper(t *testing.T) (*Keeper, *directory.Live) {
	t.Helper()
	view := directory.NewLive()
	return New(Options{
		Log: logr.Discard(), Path: filepath.Join(t.TempDir(), "made", "discovery"), Scope: xds.SnapshotScope{Cluster: "east", Network: "net"}, View: view,
	}), view
}

func count(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

func gauge(t *testing.T, g prometheus.Gauge) float64 {
	t.Helper()
	var m dto.Metric
	if err := g.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetGauge().GetValue()
}

func told(view *directory.Live, k *Keeper, uid string) {
	d := mesh.Delta{Workloads: map[string]*mesh.Workload{uid: {UID: uid, Name: uid, Namespace: "n", Cluster: "east"}}}
	view.Apply(d)
	k.Note(d)
}

// TestKeeperWritesSeldom changes something ten times in a second, for ten minutes.
func TestKeeperWritesSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, view := newTestKeeper(t)
		ctx, cancel := context.WithCancel(t.Context())
		synced, done := make(chan struct{}), make(chan struct{})
		go func() { defer close(done); k.keep(ctx, synced, func() bool { return true }) }()
		writes := func() float64 { synctest.Wait(); return count(t, k.writes) }

		told(view, k, "a")
		time.Sleep(time.Minute)
		if n := writes(); n != 0 {
			t.Errorf("%v writes before all was told", n)
		}
		close(synced)
		time.Sleep(snapshotGather + time.Millisecond)
		if n := writes(); n != 1 {
			t.Errorf("%v writes a moment after all was told, want 1", n)
		}
		for range 6000 {
			told(view, k, "a")
			time.Sleep(100 * time.Millisecond)
		}
		if n := writes(); n < 50 || n > 62 {
			t.Errorf("%v writes in ten minutes, want one in ten seconds", n)
		}
		time.Sleep(2 * snapshotPause)
		before := writes()

		// Nothing changes any more: it is not written again, but confirmed.
		time.Sleep(time.Hour + snapshotConfirm/2)
		if n := writes(); n != before {
			t.Errorf("%v writes of what did not change", n-before)
		}
		info, err := os.Stat(k.o.Path)
		if err != nil || time.Since(info.ModTime()) > snapshotConfirm {
			t.Errorf("confirmed at %v, %v; it is %v", info.ModTime(), err, time.Now())
		}
		if info, err := os.Stat(filepath.Dir(k.o.Path)); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("its directory: %v, %v", info, err)
		}
		// What has changed is in the file when the process has ended.
		told(view, k, "last")
		cancel()
		<-done
		if n := writes(); n != before+1 {
			t.Errorf("%v writes at the end, want one", n-before)
		}
	})
}

// TestKeeperThatCannotWrite goes on, and says so.
func TestKeeperThatCannotWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, view := newTestKeeper(t)
		in := filepath.Dir(filepath.Dir(k.o.Path))
		if err := os.WriteFile(filepath.Join(in, "made"), nil, 0o600); err != nil { // where its directory should be
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		synced, done := make(chan struct{}), make(chan struct{})
		close(synced)
		go func() { defer close(done); k.keep(ctx, synced, func() bool { return false }) }()
		told(view, k, "a")
		time.Sleep(10*snapshotConfirm + time.Second)
		synctest.Wait()
		if n := count(t, k.failures); n < 9 || n > 11 {
			t.Errorf("%v failures in ten minutes, want one in a minute", n)
		}
		if err := os.Remove(filepath.Join(in, "made")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(snapshotConfirm + time.Second)
		synctest.Wait()
		if n := count(t, k.writes); n != 1 {
			t.Errorf("%v writes once it could, want 1", n)
		}
		// No controller has confirmed anything since the start, and that the disk has room now changes nothing in that.
		if there, err := os.Stat(k.o.Path); err != nil || there.ModTime().Sub(k.started).Abs() > time.Second {
			t.Errorf("written %v after the start, and confirmed then: %v", time.Since(k.started), err)
		}
		cancel()
		<-done
	})
}

// TestKeeperDoesNotWriteWhatItRestored: where a controller has nothing to add to what was kept, that is confirmed, and the disk is left alone.
func TestKeeperDoesNotWriteWhatItRestored(t *testing.T) {
	for _, changed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			former, view := newTestKeeper(t)
			told(view, former, "a")
			former.write()
			if err := xds.ConfirmSnapshot(former.o.Path, time.Now().Add(-time.Hour)); err != nil {
				t.Fatal(err)
			}
			o := former.o
			o.View = directory.NewLive()
			k := New(o)
			ctx, cancel := context.WithCancel(t.Context())
			synced, done := make(chan struct{}), make(chan struct{})
			go func() { defer close(done); k.keep(ctx, synced, func() bool { return false }) }()
			k.restore(nobody(func(d mesh.Delta) error { o.View.Apply(d); k.Note(d); return nil }))
			if o.View.Load().Workload("a") == nil {
				t.Fatal("not restored")
			}
			if changed {
				told(o.View, k, "b")
			}
			close(synced)
			time.Sleep(2 * snapshotPause)
			synctest.Wait()
			want := map[bool]float64{true: 1}[changed]
			if n := count(t, k.writes); n != want {
				t.Errorf("%v writes, want %v", n, want)
			}
			if there, err := os.Stat(o.Path); err != nil || !changed && time.Since(there.ModTime()) > 2*snapshotPause {
				t.Errorf("not confirmed: %v", err)
			}
			if told(o.View, k, "c"); !changed {
				time.Sleep(2 * snapshotPause)
				synctest.Wait()
				if n := count(t, k.writes); n != 1 {
					t.Errorf("%v writes of what changed then, want 1", n)
				}
			}
			cancel()
			<-done
		})
	}
}

// nobody is a client of a controller that is not there.
func nobody(apply func(mesh.Delta) error) *xds.Client {
	return xds.NewClient(xds.ClientOptions{
		Log: logr.Discard(), Target: "127.0.0.1:1", RootCAs: x509.NewCertPool, Token: func() (string, error) { return "", errors.New("no token") },
		Types: []xds.Type{xds.Addresses(), xds.Policies()}, Apply: apply,
	})
}

// TestKeeperRestores takes what a former process left, if it is good.
func TestKeeperRestores(t *testing.T) {
	former, view := newTestKeeper(t)
	var size atomic.Int64
	former.o.Sized = size.Store
	told(view, former, "a")
	former.write()
	info, err := os.Stat(former.o.Path)
	if err != nil || size.Swap(0) != info.Size() {
		t.Errorf("of what was written another size is told: %v, %v", info, err)
	}
	follow := func(path string) (k *Keeper, v *directory.Live, stop func()) {
		v = directory.NewLive()
		o := former.o
		o.Path, o.View = path, v
		k = New(o)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- k.Follow(ctx, nobody(func(d mesh.Delta) error { v.Apply(d); k.Note(d); return nil }))
		}()
		return k, v, func() {
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("ended by %v", err)
			}
		}
	}
	k, v, stop := follow(former.o.Path)
	select {
	case <-k.Usable():
	case <-time.After(20 * time.Second):
		t.Fatal("not restored")
	}
	if got, shown := size.Load(), gauge(t, k.size); got != info.Size() || shown != float64(got) {
		t.Errorf("at the start %d bytes are told and %v shown, want %d", got, shown, info.Size())
	}
	if v.Load().Workload("a") == nil || !k.Restored() || k.Age() <= 0 {
		t.Errorf("workload %v, restored %v, age %v", v.Load().Workload("a"), k.Restored(), k.Age())
	}
	stop()
	if n := count(t, k.writes); n != 0 {
		t.Errorf("%v writes of what nobody has confirmed", n)
	}

	damaged := former.o.Path + ".damaged"
	if err := os.WriteFile(damaged, []byte("isthmus snapshot 1\nand then nothing that makes sense, although it is long enough for a checksum"), 0o600); err != nil {
		t.Fatal(err)
	}
	k, v, stop = follow(damaged)
	for deadline := time.Now().Add(20 * time.Second); count(t, k.refused.WithLabelValues("damaged")) != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the refusal is not counted")
		}
	}
	select {
	case <-k.Usable():
		t.Error("usable with nothing")
	default:
	}
	if n, _, _ := v.Load().Counts(); n != 0 || k.Restored() {
		t.Errorf("%d workloads, restored %v", n, k.Restored())
	}
	stop()
}
