// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/ca"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds"
)

const (
	subscribers          = 1000
	subscribersWorld     = 500 // workloads that each of them holds
	subscribersChanges   = 50  // one after the other, each when the one before was applied by all
	subscribersP99       = float64(250)
	subscribersEncodings = float64(1)
	subscribersName      = "controller.test"
)

// discoverySubscribers changes one endpoint, again and again, and takes the time from the call of the server's Update to the moment in which a client
// has applied it, for each of many clients. The figure is the 99th percentile of the clients, in the median change. All is the product's own and in this
// process: server and clients, each with a TLS connection of its own, share its processors, so that the clients' work counts too. The control is what the
// machine can do: as many TLS connections without gRPC or discovery, and on each of them a message as long as the response is written, read and answered.
func discoverySubscribers(ctx context.Context, out io.Writer) (result, error) {
	w, err := newWatched(ctx)
	if err != nil {
		return result{}, err
	}
	defer w.stop()
	if err := w.connect(ctx, out); err != nil {
		return result{}, err
	}
	encodings, err := w.encodings()
	if err != nil {
		return result{}, err
	}
	before := processorTime()
	var ours []float64
	slowest := 0.0
	for i := range subscribersChanges {
		round, err := w.change(ctx, uint32(i)+2)
		if err != nil {
			return result{}, err
		}
		ours = append(ours, percentile(round, 99))
		slowest = max(slowest, round[len(round)-1])
	}
	spent := processorTime() - before
	after, err := w.encodings()
	if err != nil {
		return result{}, err
	}
	w.stop()
	known, err := broadcast(ctx)
	if err != nil {
		return result{}, err
	}
	control := median(known)
	fmt.Fprintf(out, "%d changes to %d subscribers: slowest %.1f ms; processor time of both sides %.0f µs per subscriber and change\n",
		subscribersChanges, subscribers, slowest, spent.Seconds()*1e6/subscribers/subscribersChanges)
	return absolute(out,
		figure{What: "applied by a subscriber, p99", Unit: "ms", Ours: median(ours), Control: &control, Against: "TLS", Goal: subscribersP99},
		figure{What: "encodings per change", Ours: (after - encodings) / subscribersChanges, Goal: subscribersEncodings},
	), nil
}

// watched is a served discovery server and its subscribers.
type watched struct {
	server   *xds.Server
	registry *prometheus.Registry
	address  string
	signer   *ca.Signer
	applied  chan moment
	cancel   context.CancelFunc
	running  sync.WaitGroup
}

// moment is when a subscriber had applied a change, which is known by the capacity that it gave.
type moment struct {
	capacity uint32
	at       time.Time
}

func watchedPod(i int, capacity uint32) *mesh.Workload {
	key := mesh.ServiceKey{Namespace: "shop", Hostname: "cart.shop.svc.cluster.local"}
	name := fmt.Sprintf("cart-%d", i)
	return &mesh.Workload{
		UID: "west//Pod/shop/" + name, Name: name, Namespace: "shop", ServiceAccount: "cart", TrustDomain: "cluster.local",
		Network: "west", Cluster: "west", Node: fmt.Sprintf("node-%d", i%20), Tunnel: mesh.TunnelHBONE, Capacity: capacity,
		Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})},
		Services:  map[mesh.ServiceKey][]mesh.Port{key: {{Service: 80, Target: 8080}}},
	}
}

func newWatched(ctx context.Context) (*watched, error) {
	files, err := ca.SelfSigned("cluster.local")
	if err != nil {
		return nil, err
	}
	signer, err := ca.NewSigner(files)
	if err != nil {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &watched{registry: prometheus.NewRegistry(), address: listener.Addr().String(), signer: signer, applied: make(chan moment, subscribers)}
	var nodes atomic.Int64
	w.server = xds.NewServer(xds.ServerOptions{
		Log: logr.Discard(), Registerer: w.registry,
		Authenticate: func(ctx context.Context) (xds.Caller, error) {
			_, _, err := xds.Credentials(ctx)
			return xds.Caller{Namespace: "isthmus-system", ServiceAccount: "isthmus-nodeproxy", Node: fmt.Sprintf("node-%d", nodes.Add(1))}, err
		},
	})
	d := mesh.Delta{Workloads: map[string]*mesh.Workload{}}
	for i := range subscribersWorld {
		p := watchedPod(i, 1)
		d.Workloads[p.UID] = p
	}
	w.server.Update(d)
	w.server.SetReady()
	ctx, w.cancel = context.WithCancel(ctx)
	config := ca.ServerConfig(func() *ca.Signer { return signer }, subscribersName)
	w.running.Go(func() { _ = xds.Serve(ctx, listener, config, w.server) }) // a server that failed shows as subscribers that hear nothing
	return w, nil
}

func (w *watched) stop() {
	w.cancel()
	w.running.Wait()
}

// connect starts the subscribers and waits until each holds the world.
func (w *watched) connect(ctx context.Context, out io.Writer) error {
	began := time.Now()
	roots := w.signer.Roots()
	running, cancel := context.WithCancel(ctx)
	stop := w.cancel
	w.cancel = func() { cancel(); stop() }
	synced := make([]<-chan struct{}, subscribers)
	for i := range synced {
		c := xds.NewClient(xds.ClientOptions{
			Log: logr.Discard(), Target: w.address, ServerName: subscribersName, RootCAs: roots.Clone, Cluster: "west",
			Token: func() (string, error) { return "good", nil },
			Types: []xds.Type{xds.Addresses(), xds.Policies()},
			Apply: func(d mesh.Delta) error {
				if len(d.Workloads) == 1 {
					w.applied <- moment{d.Workloads[watchedPod(0, 0).UID].Capacity, time.Now()}
				}
				return nil
			},
		})
		synced[i] = c.Synced()
		w.running.Go(func() { _ = c.Run(running) }) // ends with its context
	}
	for _, s := range synced {
		select {
		case <-s:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	fmt.Fprintf(out, "%d subscribers hold %d workloads after %.1f s\n", subscribers, subscribersWorld, time.Since(began).Seconds())
	return nil
}

// change gives one endpoint another capacity, and how long it took until each subscriber had applied that, in milliseconds.
func (w *watched) change(ctx context.Context, capacity uint32) ([]float64, error) {
	p := watchedPod(0, capacity)
	began := time.Now()
	w.server.Update(mesh.Delta{Workloads: map[string]*mesh.Workload{p.UID: p}})
	delays := make([]float64, 0, subscribers)
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	for len(delays) < subscribers {
		select {
		case m := <-w.applied:
			if m.capacity != capacity {
				return nil, fmt.Errorf("a subscriber applied capacity %d while %d was told", m.capacity, capacity)
			}
			delays = append(delays, m.at.Sub(began).Seconds()*1e3)
		case <-limit.C:
			return nil, fmt.Errorf("after a minute %d of %d subscribers have applied a change", len(delays), subscribers)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return delays, nil
}

// encodings is how many resources the server has encoded.
func (w *watched) encodings() (float64, error) {
	families, err := w.registry.Gather()
	if err != nil {
		return 0, err
	}
	for _, f := range families {
		if f.GetName() == "isthmus_xds_encoded_total" {
			sum := 0.0
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
			return sum, nil
		}
	}
	return 0, errors.New("the server does not count what it encodes")
}

const (
	broadcastBytes = 400 // one workload in a response, with its envelope
	broadcastReply = 80  // an acknowledgement
)

// broadcast writes a message to as many TLS connections as there are subscribers, each from a goroutine of its own as a stream's sender is, and gives how
// long it took until 99 % of them were read, in milliseconds, each time.
func broadcast(ctx context.Context) ([]float64, error) {
	l, err := newLoopback(ctx)
	if err != nil {
		return nil, err
	}
	defer l.close()
	arrived := make(chan time.Time, subscribers)
	answered := make(chan struct{}, subscribers)
	var wake [subscribers]chan struct{}
	for i := range wake {
		client, server, err := l.bareTLS(ctx)
		if err != nil {
			return nil, err
		}
		wake[i] = make(chan struct{}, 1)
		defer close(wake[i])
		l.running.Go(func() { // they end with their connections, or when nothing wakes them any more
			message := make([]byte, broadcastBytes)
			for range wake[i] {
				if _, err := server.Write(message); err != nil {
					return
				}
			}
		})
		l.running.Go(func() {
			message, reply := make([]byte, broadcastBytes), make([]byte, broadcastReply)
			for {
				if _, err := io.ReadFull(client, message); err != nil {
					return
				}
				arrived <- time.Now()
				if _, err := client.Write(reply); err != nil {
					return
				}
			}
		})
		l.running.Go(func() {
			reply := make([]byte, broadcastReply)
			for {
				if _, err := io.ReadFull(server, reply); err != nil {
					return
				}
				answered <- struct{}{}
			}
		})
	}
	var p99 []float64
	for range subscribersChanges {
		delays := make([]float64, 0, subscribers)
		began := time.Now()
		for i := range wake {
			wake[i] <- struct{}{}
		}
		for range 2 * subscribers {
			select {
			case at := <-arrived:
				delays = append(delays, at.Sub(began).Seconds()*1e3)
			case <-answered:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		p99 = append(p99, percentile(delays, 99))
	}
	return p99, nil
}
