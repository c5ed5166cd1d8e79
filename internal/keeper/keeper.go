// SPDX-License-Identifier: Apache-2.0

// Package keeper keeps what a proxy knows of discovery over a restart of its process, for node proxies and gateways alike.
package keeper

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds"
)

const (
	// DefaultMaxAge is how old a snapshot may be: a day, after which no certificate from then is valid any more.
	DefaultMaxAge = 24 * time.Hour

	// snapshotMoment is how long a controller has to say all before a snapshot is taken instead. A stream is open after a few round trips; a
	// pod that crashed is to be served again within two seconds.
	snapshotMoment = 500 * time.Millisecond

	// largeSnapshot is the size, in bytes, of one that no controller tells in that moment: some 20,000 workloads. It is read at once.
	largeSnapshot = 8 << 20

	// Changes are written after a moment in which more may come, and at most as often that writing costs a hundredth of a CPU, and 256 KiB/s of the disk.
	snapshotGather = time.Second
	snapshotPause  = 10 * time.Second
	snapshotShare  = 100
	snapshotRate   = 256 << 10 // bytes/s
	// snapshotConfirm is how often an unchanged snapshot is marked as current: nobody minds a minute in the age of one.
	snapshotConfirm = time.Minute
)

// Options say what is kept where. Log, Scope and View must be set.
type Options struct {
	Log logr.Logger
	// Path is the file; empty keeps nothing.
	Path string
	// Sized is told how large the file is, in bytes: at the start, if there is one, and after each write. nil: nobody is.
	Sized func(bytes int64)
	Scope xds.SnapshotScope
	// MaxAge is how old a snapshot may be that is restored; 0 means DefaultMaxAge.
	MaxAge time.Duration
	View   *directory.Live
	// Registerer takes the metrics; nil keeps them to ourselves.
	Registerer prometheus.Registerer
}

// Keeper keeps what is known of discovery over a restart of the process. Where a controller says all at once, what was kept is not looked at; where it takes its
// time, or there is more than it can say at once, what was kept serves until it has, and is then replaced in one step.
type Keeper struct {
	o       Options
	started time.Time
	usable  chan struct{}
	changed chan struct{} // holds a token while something is not written

	client    atomic.Pointer[xds.Client]
	confirmed atomic.Int64 // of the snapshot that was restored, in Unix nanoseconds; 0 for none

	mu      sync.Mutex
	bundles map[string]*mesh.Bundle

	writes, failures prometheus.Counter
	refused          *prometheus.CounterVec
	size             prometheus.Gauge
}

// New makes a keeper that has done nothing yet.
func New(o Options) *Keeper {
	if o.MaxAge == 0 {
		o.MaxAge = DefaultMaxAge
	}
	k := &Keeper{
		o: o, started: time.Now(), usable: make(chan struct{}), changed: make(chan struct{}, 1), bundles: map[string]*mesh.Bundle{},
		writes:   prometheus.NewCounter(prometheus.CounterOpts{Name: "isthmus_snapshot_writes_total", Help: "Snapshots of discovery that were written."}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "isthmus_snapshot_write_failures_total", Help: "Snapshots of discovery that could not be written."}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_snapshot_refused_total", Help: "Snapshots that were not restored."}, []string{"reason"}),
		size: prometheus.NewGauge(prometheus.GaugeOpts{Name: "isthmus_snapshot_bytes", Help: "Size of the snapshot, as it was written last, or found at the start."}),
	}
	if o.Registerer != nil {
		o.Registerer.MustRegister(k.writes, k.failures, k.refused, k.size,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "isthmus_discovery_age_seconds",
				Help: "Time since a controller last confirmed what is known, or since the start if none ever did; 0 while one is connected."},
				func() float64 { return k.Age().Seconds() }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "isthmus_snapshot_restored",
				Help: "1 while what is known comes from a snapshot that no controller has confirmed yet, else 0."},
				func() float64 { return one(k.Restored()) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "isthmus_discovery_partial",
				Help: "1 while the controller says that it could not read all clusters yet, so that there may be more than is known; else 0."},
				func() float64 {
					c := k.client.Load()
					return one(c != nil && c.Partial())
				}),
		)
	}
	return k
}

// one is a truth as a metric tells it.
func one(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// Note takes a delta that was applied to the view.
func (k *Keeper) Note(d mesh.Delta) {
	if len(d.Bundles) > 0 {
		k.mu.Lock()
		for domain, b := range d.Bundles {
			if b == nil {
				delete(k.bundles, domain)
			} else {
				k.bundles[domain] = b
			}
		}
		k.mu.Unlock()
	}
	k.touch()
}

func (k *Keeper) touch() {
	select {
	case k.changed <- struct{}{}:
	default:
	}
}

// Usable is closed once the view holds what a controller said, or what one had said when the snapshot was written.
func (k *Keeper) Usable() <-chan struct{} { return k.usable }

// Restored says whether what is known comes from a snapshot that no controller has confirmed yet.
func (k *Keeper) Restored() bool {
	c := k.client.Load()
	if c == nil || k.confirmed.Load() == 0 {
		return false
	}
	select {
	case <-c.Synced():
		return false
	default:
		return true
	}
}

// Age is how long ago a controller last confirmed what is known: 0 while one is connected, the time since the start if none ever did.
func (k *Keeper) Age() time.Duration {
	if k.Restored() {
		return time.Since(time.Unix(0, k.confirmed.Load()))
	}
	if c := k.client.Load(); c != nil {
		if c.Connected() {
			return 0
		}
		if last := c.LastConnected(); !last.IsZero() {
			return time.Since(last)
		}
	}
	return time.Since(k.started)
}

// Follow runs the client until ctx ends, and gives its error. What the client applies must be told by Note. It must be called once.
func (k *Keeper) Follow(ctx context.Context, client *xds.Client) error {
	k.client.Store(client)
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() {
		select {
		case <-client.Synced():
			k.open()
		case <-ctx.Done():
		}
	})
	if k.o.Path == "" {
		return client.Run(ctx)
	}
	running.Go(func() { k.keep(ctx, client.Synced(), client.Connected) })
	there, err := os.Stat(k.o.Path)
	if err == nil {
		k.sized(there.Size())
	}
	if errors.Is(err, fs.ErrNotExist) { // nothing to fall back to: a controller that takes long is waited for
		k.o.Log.Info("there is no snapshot, a controller must say all first", "path", k.o.Path)
		return client.Run(ctx)
	}
	if err == nil && there.Size() > largeSnapshot {
		k.restore(client)
		return client.Run(ctx)
	}
	first, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- client.Run(first) }()
	if tellsAll(ctx, client) {
		return <-ended
	}
	stop() // nothing is lost: it goes on with what it has heard
	if err := <-ended; ctx.Err() != nil {
		return err
	}
	k.restore(client)
	return client.Run(ctx)
}

// tellsAll waits until a controller has said all, or it is clear that it will not at once.
func tellsAll(ctx context.Context, client *xds.Client) bool {
	select {
	case <-client.Synced():
		return true
	case <-ctx.Done():
		return true
	case <-time.After(snapshotMoment):
		return false
	}
}

func (k *Keeper) restore(client *xds.Client) {
	begun := time.Now()
	same := len(k.changed) == 0 // nothing is known beside what the file has
	select {
	case <-client.Synced():
		same = false
	default:
	}
	got, err := client.Restore(k.o.Path, k.o.Scope, k.o.MaxAge)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		k.o.Log.Info("no controller has said all yet, and there is no snapshot", "path", k.o.Path)
	case err != nil:
		reason := "not_applied"
		if e, ok := errors.AsType[*xds.SnapshotError](err); ok {
			reason = string(e.Reason)
		}
		k.refused.WithLabelValues(reason).Inc()
		k.o.Log.Error(err, "no controller has said all yet, and the snapshot is not used", "path", k.o.Path, "reason", reason)
	default:
		k.confirmed.Store(got.Confirmed.UnixNano())
		if same {
			select {
			case <-k.changed:
			default:
			}
		}
		k.o.Log.Info("no controller has said all yet: serving from the snapshot", "path", k.o.Path, "resources", got.Resources,
			"age", time.Since(got.Confirmed).Round(time.Second).String(), "took", time.Since(begun).Round(time.Millisecond).String())
		k.open()
	}
}

// open closes usable, once.
func (k *Keeper) open() {
	k.mu.Lock()
	defer k.mu.Unlock()
	select {
	case <-k.usable:
	default:
		close(k.usable)
	}
}

// keep writes what changes, from the first time that all was told: half of it must not replace what was whole.
func (k *Keeper) keep(ctx context.Context, synced <-chan struct{}, connected func() bool) {
	select {
	case <-synced:
	case <-ctx.Done():
		return
	}
	confirm := time.NewTicker(snapshotConfirm)
	defer confirm.Stop()
	var next time.Time // when the disk may be troubled again
	// What was restored, and is confirmed now without a change, stands as it is. Else it is written, also if all that was told was that there is nothing.
	if k.confirmed.Load() == 0 || len(k.changed) == 0 && xds.ConfirmSnapshot(k.o.Path, time.Now()) != nil {
		k.touch()
	}
	for {
		select {
		case <-ctx.Done():
			if len(k.changed) > 0 { // the next process reads it
				k.write()
			}
			return
		case <-confirm.C:
			if connected() && len(k.changed) == 0 {
				if err := xds.ConfirmSnapshot(k.o.Path, time.Now()); err != nil {
					k.touch() // somebody removed it
				}
			}
			continue
		case <-k.changed:
		}
		select {
		case <-ctx.Done():
		case <-time.After(max(snapshotGather, time.Until(next))):
		}
		next = time.Now().Add(k.write())
	}
}

// write gives how long to leave the disk alone now.
func (k *Keeper) write() time.Duration {
	select {
	case <-k.changed: // in what is written now
	default:
	}
	begun := time.Now()
	size, err := k.save()
	if err != nil {
		k.failures.Inc()
		k.o.Log.Error(err, "what is known is not kept for a restart", "retryIn", snapshotConfirm.String())
		k.touch()
		return snapshotConfirm
	}
	k.writes.Inc()
	k.sized(size)
	took := time.Since(begun)
	k.o.Log.V(1).Info("snapshot written", "bytes", size, "took", took.Round(time.Millisecond).String())
	return max(snapshotPause, snapshotShare*took, time.Duration(size)*time.Second/snapshotRate)
}

func (k *Keeper) sized(bytes int64) {
	k.size.Set(float64(bytes))
	if k.o.Sized != nil {
		k.o.Sized(bytes)
	}
}

func (k *Keeper) save() (int64, error) {
	if err := os.MkdirAll(filepath.Dir(k.o.Path), 0o700); err != nil {
		return 0, err
	}
	k.mu.Lock()
	bundles := maps.Clone(k.bundles)
	k.mu.Unlock()
	v, confirmed := k.o.View.Load(), time.Now().Add(-k.Age())
	size, err := xds.SaveSnapshot(k.o.Path, k.o.Scope, xds.Contents{
		Workloads: v.Workloads(), Services: v.Services(), Policies: v.Policies(), Bundles: maps.Values(bundles), Gateways: v.Gateways(),
	})
	if err == nil { // a disk that was full for long may have room when the controller is away
		err = xds.ConfirmSnapshot(k.o.Path, confirmed)
	}
	return size, err
}
