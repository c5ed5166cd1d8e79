// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
	"github.com/isthmus-mesh/isthmus/test/fleet"
)

const (
	floodRounds  = 3
	floodTime    = 8 * time.Second // of each round
	floodProxies = 5
	floodLocal   = 20   // changes of our own cluster, a second
	floodRate    = 1000 // changes of the hostile one
	floodCrowd   = 1_000_000
	floodBegins  = 100 * time.Millisecond // until a hostile cluster claims what it shall
	floodRoom    = 64                     // MiB that are kept of one cluster (--remote-room)
	// The goals of "local proxies' updates keep their latency": beside the same flood that somebody else reads.
	floodMedian = 1.5
	floodTail   = 2.0
	// floodMemory is what the hostile cluster may take, as a multiple of its room: what is kept, what is read anew beside it, and garbage of both.
	floodMemory = 4.0
)

// discoveryFlood has our own cluster's pods change and proxies note how long it takes until they know, while another cluster does its worst.
//
// The control is the same flood from the same simulated server, read by nobody but a client in this process that throws it away: clusters, proxies and controller share
// a machine, and what the flood's making costs is not the controller's doing. Rounds with neither are printed beside it. Ratios are of neighbouring rounds, and of those
// the median counts. The value is the ratio of the medians under changes; the row fails if one of the others is too large.
func discoveryFlood(ctx context.Context, out io.Writer) (_ result, err error) {
	defer debug.SetGCPercent(debug.SetGCPercent(propagateQuiet))
	p, err := newDiscoveryPlane(ctx, 3)
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	p.more = []string{"--remote-room", fmt.Sprint(floodRoom)}
	if err := p.start(ctx); err != nil {
		return result{}, err
	}
	if err := p.awaitReady(ctx); err != nil {
		return result{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	proxies, err := p.connect(ctx, &running, floodProxies)
	if err != nil {
		return result{}, err
	}
	f := &flood{plane: p, proxies: proxies, unrest: newDiscoveryUnrest(p, p.clusters[:1], proxies), hostile: p.clusters[1], other: p.clusters[2]}
	if _, err := f.round(ctx, nil); err != nil { // warm
		return result{}, err
	}
	var figures []figure
	for _, attack := range []struct {
		name string
		play func(context.Context, *fleet.Cluster) error
		mark func() error
	}{
		{"1,000 changes a second", f.changes, func() error { return p.awaitRemote(ctx, f.hostile) }},
		{"a million services", f.crowd, f.awaitRefused},
	} {
		r, err := f.measure(ctx, out, attack.name, attack.play, attack.mark)
		if err != nil {
			return result{}, fmt.Errorf("%s: %w", attack.name, err)
		}
		figures = append(figures, r...)
	}
	known := float64(floodRoom) * (1 << 20) / 1e6
	figures = append(figures, atMost("memory that the hostile cluster takes at most", "MB", f.peak-f.base, known, "its room", floodMemory))
	return ratio(out, floodMedian, figures...), nil
}

type flood struct {
	plane          *discoveryPlane
	proxies        *discoveryProxies
	unrest         *discoveryUnrest
	hostile, other *fleet.Cluster
	base, peak     float64 // MB that the controller holds
}

// delay is how long local changes took.
type delay struct{ median, tail float64 } // ms

// measure plays an attack in rounds.
func (f *flood) measure(ctx context.Context, out io.Writer, name string, play func(context.Context, *fleet.Cluster) error, mark func() error) ([]figure, error) {
	var medians, tails, controls, controlTails []float64
	for range floodRounds {
		quiet, err := f.round(ctx, nil)
		if err != nil {
			return nil, err
		}
		if f.base == 0 {
			f.base = f.peak
		}
		noisy, err := f.round(ctx, func(ctx context.Context) error {
			return alongside(ctx, func(ctx context.Context) error { return devour(ctx, f.other) }, func(ctx context.Context) error { return play(ctx, f.other) })
		})
		if err != nil {
			return nil, err
		}
		flooded, err := f.round(ctx, func(ctx context.Context) error {
			return alongside(ctx, func(ctx context.Context) error { return play(ctx, f.hostile) }, func(context.Context) error {
				time.Sleep(floodBegins)
				return f.plane.join(1, 2)
			})
		})
		if err != nil {
			return nil, err
		}
		if err := mark(); err != nil {
			return nil, err
		}
		if err := f.unlink(ctx); err != nil {
			return nil, err
		}
		fmt.Fprintf(out, "%s: local changes take %.1f ms (p99 %.1f), the same read by somebody else %.1f (%.1f), quiet %.1f (%.1f); the controller holds %.0f MB at most\n",
			name, flooded.median, flooded.tail, noisy.median, noisy.tail, quiet.median, quiet.tail, f.peak)
		medians, tails = append(medians, flooded.median/noisy.median), append(tails, flooded.tail/noisy.tail)
		controls, controlTails = append(controls, noisy.median), append(controlTails, noisy.tail)
	}
	beside := "beside it"
	return []figure{
		atMost(name+": local change, median", "ms", median(medians)*median(controls), median(controls), beside, floodMedian),
		atMost(name+": local change, 99th percentile", "ms", median(tails)*median(controlTails), median(controlTails), beside, floodTail),
	}, nil
}

// round has our own cluster change while attack runs, until attack's context ends.
func (f *flood) round(ctx context.Context, attack func(context.Context) error) (delay, error) {
	attacking, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() {
		if attack == nil {
			ended <- nil
			return
		}
		ended <- attack(attacking)
	}()
	if err := f.unrest.run(ctx, floodLocal, time.Second); err != nil { // until it is under way
		return delay{}, err
	}
	f.proxies.forget()
	for began := time.Now(); time.Since(began) < floodTime; {
		if err := f.unrest.run(ctx, floodLocal, time.Second); err != nil {
			return delay{}, err
		}
		r, err := f.plane.resident()
		if err != nil {
			return delay{}, err
		}
		f.peak = max(f.peak, r)
	}
	stop()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		return delay{}, err
	}
	if err := f.plane.await(ctx, "the proxies know", func() (bool, error) { return f.proxies.missing() == 0, nil }); err != nil {
		return delay{}, err
	}
	took, _ := f.proxies.delays()
	if len(took) < floodLocal {
		return delay{}, fmt.Errorf("%d local changes were seen", len(took))
	}
	ms := func(d time.Duration) float64 { return d.Seconds() * 1e3 }
	return delay{ms(percentile(took, 50)), ms(percentile(took, 99))}, nil
}

// changes has a cluster's pods become ready and unready, as many as a second has room for.
func (f *flood) changes(ctx context.Context, c *fleet.Cluster) error {
	began := time.Now()
	for made := 0; ; {
		for ; made < int(time.Since(began).Seconds()*floodRate); made++ {
			turn := made / 2 // a pod is an event, its slice another
			if err := c.Flip(turn%discoveryEndpoints, turn/discoveryEndpoints%2 == 1); err != nil {
				return err
			}
			made++
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// crowd has a cluster claim a million services, to whoever asks from now on.
func (f *flood) crowd(ctx context.Context, c *fleet.Cluster) error {
	c.Crowd(floodCrowd)
	<-ctx.Done()
	return ctx.Err()
}

// awaitRefused waits until the hostile cluster is told to have too much.
func (f *flood) awaitRefused() error {
	return f.plane.await(context.Background(), "a million services are refused", func() (bool, error) {
		r, err := fleet.Get(f.plane.local().Server, &v1alpha1.RemoteCluster{ObjectMeta: metav1.ObjectMeta{Name: f.hostile.ID}})
		if err != nil {
			return false, err
		}
		c := meta.FindStatusCondition(r.Status.Conditions, v1alpha1.RemoteClusterReady)
		if c == nil || c.Reason != v1alpha1.ReasonTooLarge {
			return false, fmt.Errorf("status of %s: %+v", f.hostile.ID, r.Status)
		}
		return true, nil
	})
}

// unlink has the controller read the hostile cluster no more, and waits until it is forgotten.
func (f *flood) unlink(ctx context.Context) error {
	local := f.plane.local()
	if err := local.Delete(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: fleet.SystemNamespace, Name: f.hostile.ID}}); err != nil {
		return err
	}
	return f.plane.await(ctx, "the cluster is forgotten", func() (bool, error) {
		_, err := fleet.Get(local.Server, &v1alpha1.RemoteCluster{ObjectMeta: metav1.ObjectMeta{Name: f.hostile.ID}})
		return err != nil, nil
	})
}

// alongside runs several until the context ends, and gives the first error that is not its end.
func alongside(ctx context.Context, parts ...func(context.Context) error) error {
	errs := make(chan error, len(parts))
	for _, part := range parts {
		go func() { errs <- part(ctx) }()
	}
	var first error
	for range parts {
		if err := <-errs; err != nil && ctx.Err() == nil {
			first = errors.Join(first, err)
		}
	}
	return first
}

// devour reads what a controller would read of a cluster that floods, and throws it away. What a controller cuts off it leaves alone too.
func devour(ctx context.Context, c *fleet.Cluster) error {
	config, err := clientcmd.RESTConfigFromKubeConfig(c.Kubeconfig)
	if err != nil {
		return err
	}
	tlsConfig, err := rest.TLSConfigFor(config)
	if err != nil {
		return err
	}
	asker := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: tlsConfig.RootCAs, MinVersion: tls.VersionTLS13}}}
	defer asker.CloseIdleConnections()
	read := func(path string) func(context.Context) error {
		return func(ctx context.Context) error {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, config.Host+path+"?watch=true&sendInitialEvents=true", http.NoBody)
			if err != nil {
				return err
			}
			request.Header.Set("Authorization", "Bearer "+config.BearerToken)
			request.Header.Set("Accept", "application/vnd.kubernetes.protobuf;type=watch")
			answer, err := asker.Do(request)
			if err != nil {
				return err
			}
			defer answer.Body.Close()
			const crowdLimit = 40 << 20 // of a million services, what the room of the hostile cluster holds on the wire
			if path == "/api/v1/services" {
				_, err = io.CopyN(io.Discard, answer.Body, crowdLimit)
				if err == nil || errors.Is(err, io.EOF) {
					<-ctx.Done()
				}
				return nil
			}
			_, err = io.Copy(io.Discard, answer.Body)
			return err
		}
	}
	time.Sleep(floodBegins)
	return alongside(ctx, read("/api/v1/pods"), read("/apis/discovery.k8s.io/v1/endpointslices"), read("/api/v1/services"))
}
