// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"context"
	"errors"
	"net"
	"runtime"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/reach"
	"github.com/isthmus-mesh/isthmus/internal/stranger"
	"github.com/isthmus-mesh/isthmus/internal/zds"
)

const (
	// workloadPatience is how long a connection waits for the control plane to tell of its pod, which may have started just now.
	workloadPatience = 5 * time.Second
	// lastTurn is how long a proxy that ends, and has nobody to leave its sockets to, still accepts what had begun: connections
	// whose handshake was under way. One second is a round trip to anywhere.
	lastTurn = time.Second
	// maxHandshakes bounds the inbound TLS handshakes that are computed at once, for one pod. At about a millisecond of CPU each, 128 are a sixteenth of
	// a second of two cores; the rest waits its turn.
	maxHandshakes = 128
	// maxStrangers bounds the inbound connections to tunnel ports of all pods of the node whose handshake has not begun and, as many again, those whose handshake is not done: at
	// about 10 KiB each, 80 MiB. maxStrangersPerAddress bounds those of one address to one pod whose handshake has not begun: a gateway that opens 5,000 tunnels a second for peers
	// 200 ms away has so many.
	maxStrangers, maxStrangersPerAddress = 4096, 1024
)

// pod is one pod that is served: its listeners, its tunnels, its connections.
type pod struct {
	proxy     *Proxy
	info      zds.Workload
	namespace *Namespace
	tunnels   *reach.Tunnels // outbound, shared among the pod's connections
	health    *reach.Health  // of what it connects to: NetworkPolicies select pods
	tunnelsIn *tunnelSet
	// handshakes are the turns of inbound ones.
	handshakes stranger.Turns

	entrance *entrance
	// taking is closed when connections may be taken.
	taking <-chan struct{}
	// connecting are the outbound connections that have no upstream yet.
	connecting sync.WaitGroup

	// accepting ends with the listeners, carrying with the last connection's permission to live.
	accepting, carrying         context.Context
	stopAccepting               context.CancelFunc
	abort                       context.CancelCauseFunc
	acceptors, connectionsAlive sync.WaitGroup
}

// startPod opens the pod's listeners. It owns namespace only if it succeeds.
func (x *Proxy) startPod(w zds.Workload, namespace *Namespace) (*pod, error) {
	p := &pod{
		proxy: x, info: w, namespace: namespace, tunnelsIn: newTunnelSet(x.o.limits.connections / 2), handshakes: stranger.NewTurns(maxHandshakes),
	}
	p.carrying, p.abort = context.WithCancelCause(context.Background())
	p.accepting, p.stopAccepting = context.WithCancel(p.carrying)
	p.health = x.health.New()
	p.tunnels = p.newTunnels()

	var err error
	if p.entrance, err = x.entrances.enter(namespace); err != nil {
		shut(p.tunnels)
		p.health.Close()
		p.abort(nil)
		return nil, err
	}
	if p.taking = x.taking; !p.entrance.elsewhere {
		p.taking = closedChannel // if it does not serve the pod, nobody does
	}
	var opened []*net.TCPListener
	fail := func(err error) (*pod, error) {
		for _, l := range opened {
			shut(l)
		}
		p.abort(nil)
		p.connectionsAlive.Wait()
		x.entrances.leave(p.entrance)
		shut(p.tunnels)
		p.health.Close()
		return nil, err
	}
	for _, o := range []opening{openOutbound, openPlaintext, openHBONE} {
		l, err := p.entrance.listener(o)
		if err != nil {
			return fail(err)
		}
		opened = append(opened, l)
	}
	if err := p.startDNS(); err != nil {
		return fail(err)
	}
	for i, serve := range []func(context.Context, *net.TCPConn){p.serveOutbound, p.servePlaintext, p.serveTunnel} {
		var begun func()
		if i == 0 {
			begun = func() { p.connecting.Add(1) }
		}
		p.acceptors.Go(func() { p.accept(opened[i], p.places([]string{"outbound", "plaintext", "hbone"}[i]), begun, serve) })
	}
	x.o.Log.V(1).Info("pod served", "workload", p.String())
	return p, nil
}

// String is "namespace/name".
func (p *pod) String() string { return p.info.Namespace + "/" + p.info.Name }

// closedChannel is closed.
var closedChannel = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// mayTake waits until connections may be taken, and says whether there is still somebody to take them.
func (p *pod) mayTake() bool {
	select {
	case <-p.taking:
		return p.accepting.Err() == nil
	case <-p.accepting.Done():
		return false
	}
}

// accept hands connections out until the listener is closed. begun, if it is set, is called before each.
func (p *pod) accept(l *net.TCPListener, places *places, begun func(), serve func(context.Context, *net.TCPConn)) {
	defer shut(l)
	if !p.mayTake() {
		return
	}
	defer context.AfterFunc(p.accepting, func() { shut(l) })()
	for places.take(p.accepting) {
		nc, err := l.AcceptTCP()
		if err != nil {
			places.give()
			if p.accepting.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			select { // out of descriptors, for example: the next moment may be better
			case <-p.accepting.Done():
			case <-time.After(10 * time.Millisecond):
			}
			continue
		}
		if begun != nil {
			begun()
		}
		p.connectionsAlive.Go(func() {
			defer places.give()
			serve(p.carrying, nc)
		})
		runtime.Gosched() // the connection comes before the look for another one
	}
}

// lookup finds the pod in a view, or nil.
func (p *pod) lookup(v *directory.View) *mesh.Workload {
	return v.Pod(directory.PodKey{Cluster: p.proxy.o.Cluster, Namespace: p.info.Namespace, Name: p.info.Name}, p.info.ServiceAccount)
}

// workload finds the pod, waiting for the control plane to tell of it.
func (p *pod) workload(ctx context.Context) (*mesh.Workload, *Refusal) {
	v := p.proxy.o.View.Load()
	if w := p.lookup(v); w != nil {
		return w, nil
	}
	patience := time.NewTimer(workloadPatience)
	defer patience.Stop()
	for {
		select {
		case <-v.Superseded():
		case <-patience.C:
			return nil, unavailable(ReasonNoWorkload, "the control plane has not told of pod %s", p)
		case <-ctx.Done():
			return nil, unavailable(ReasonNoWorkload, "the control plane has not told of pod %s: %w", p, context.Cause(ctx))
		}
		v = p.proxy.o.View.Load()
		if w := p.lookup(v); w != nil {
			return w, nil
		}
	}
}

// drain stops accepting after a grace, tells peers to go elsewhere, and waits for the connections until ctx ends; then it ends what is left. Those that are
// still being made are made first, for which they need tunnels.
func (p *pod) drain(ctx context.Context, grace time.Duration) {
	select {
	case <-time.After(grace):
	case <-ctx.Done():
	}
	p.stopAccepting()
	p.acceptors.Wait()
	p.proxy.entrances.leave(p.entrance)
	p.tunnelsIn.drain()
	done := make(chan struct{})
	go func() {
		p.connecting.Wait()
		p.tunnels.Drain()
		p.connectionsAlive.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
	p.end(&Refusal{Status: 503, Reason: ReasonDrain, Err: errors.New("the drain time is over")})
	<-done
}

// outlive calls end when discovery has not known the pod, or has meant its successor by its name, for as long as what a dead one left may go on, unless ctx ends before.
func (p *pod) outlive(ctx context.Context, end func()) {
	for v := p.proxy.o.View.Load(); p.lives(v); v = p.proxy.o.View.Load() {
		select {
		case <-v.Superseded():
		case <-ctx.Done():
			return
		}
	}
	select {
	case <-time.After(departure):
		end()
	case <-ctx.Done():
	}
}

// lives says whether discovery knows the pod, as it does one that left the mesh and runs on. Whoever has its name at another node, or is served here under it, is its successor.
func (p *pod) lives(v *directory.View) bool {
	w, node := p.lookup(v), p.proxy.o.Node
	elsewhere := w != nil && node != "" && w.Node != "" && w.Node != node
	return w != nil && !elsewhere && !p.proxy.pods.succeeded(p.info)
}

// end ends the pod and all of its connections now, and waits for them.
func (p *pod) end(cause error) {
	p.abort(cause)
	p.acceptors.Wait()
	p.connectionsAlive.Wait()
	shut(p.tunnels)
	p.health.Close()
	shut(p.namespace)
}
