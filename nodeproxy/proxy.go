// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/dns"
	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/keeper"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
	"github.com/isthmus-mesh/isthmus/internal/reach"
	"github.com/isthmus-mesh/isthmus/internal/stranger"
	"github.com/isthmus-mesh/isthmus/internal/tracing"
	"github.com/isthmus-mesh/isthmus/internal/zds"
)

const (
	// DefaultDrain is how long connections may go on after the proxy was told to end.
	DefaultDrain = 10 * time.Minute
	// protocolPause is how long to wait after the agent broke its protocol: nothing will be better at once.
	protocolPause = time.Second
)

// Options say what a Proxy is part of. All fields but PodNamespace, PodName, Drain, Ready and Registerer must be set.
type Options struct {
	Log logr.Logger
	// AccessLog takes one line for each connection.
	AccessLog logr.Logger
	// Network and Cluster are where this proxy's pods are. A pod of which the control plane says that it is on another network is there.
	Network, Cluster string
	// Node is the node's name, as discovery has it; empty: it is not known.
	Node string
	// PodNamespace and PodName are where this proxy runs; empty: it is not known.
	PodNamespace, PodName string
	// ClusterDomain is the DNS domain of services, without a dot at the end.
	ClusterDomain string
	// View is kept current by somebody else.
	View *directory.Live
	// Certificates proves pods to peers, and peers to pods.
	Certificates *mtls.Source
	// Socket is where the agent listens.
	Socket string
	// Succession is a directory by which the proxies of this node, and they alone, know of each other, so that one takes over from the other without refusing anything;
	// empty: there are no others.
	Succession string
	// Nameservers are asked for names that are not the mesh's by pods of which it is not known whom they had asked.
	Nameservers []netip.AddrPort
	// Drain is how long connections may go on when the proxy ends; 0 means DefaultDrain.
	Drain time.Duration
	// Synced is closed when the view has been filled for the first time; nil if it is now.
	Synced <-chan struct{}
	// LocalityLabels has connections counted by the regions and zones of their ends, too.
	LocalityLabels bool
	// Tracer makes a span of each connection; nil: none.
	Tracer *tracing.Tracer
	// Keeper, if there is one, says how current the view is.
	Keeper *keeper.Keeper
	// Registerer takes the metrics; nil keeps them to ourselves.
	Registerer prometheus.Registerer

	limits limits // tests have lower ones
}

// Proxy serves the pods of one node.
type Proxy struct {
	o           Options
	access      slog.Handler // of o.AccessLog
	sockets     *sockets
	pods        *pods
	connections *connections
	health      *reach.Healths
	metrics     *metrics
	// strangers are the peers of all pods that have proved nothing yet.
	strangers  *stranger.Room
	claims     *claims
	entrances  *entrances
	succession *succession
	// taking is closed when this proxy may take connections; one before it may be better at it until then.
	taking chan struct{}
	// queries bounds the DNS queries of all pods that wait for servers upstream.
	queries *dns.Slots
	judge   *Judge
	// proved says that all pods had been asked certificates for at some time.
	proved atomic.Bool
	// moved says that pods have come, or are gone.
	moved chan struct{}
	// running are goroutines that the proxy waits for at its end.
	running sync.WaitGroup
}

// New makes a proxy that serves nothing yet. It fails if the process may not enter namespaces or mark sockets.
func New(o Options) (*Proxy, error) {
	sockets, err := newSockets()
	if err != nil {
		return nil, err
	}
	if o.Drain == 0 {
		o.Drain = DefaultDrain
	}
	if o.limits.connections == 0 {
		o.limits.connections = maxConnectionsPerPod
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	var more []string
	if o.LocalityLabels {
		more = localityLabels
	}
	x := &Proxy{
		o: o, access: logr.ToSlogHandler(o.AccessLog), sockets: sockets, connections: newConnections(), health: reach.NewHealths(time.Now, rand.Float64), metrics: newMetrics(o.Registerer, more...),
		claims: newClaims(), queries: dns.NewSlots(maxQueries, dns.ReasonNodeBusy, nil),
		strangers: stranger.NewRoom(maxStrangers, maxStrangersPerAddress), judge: NewJudge(o.Log.WithName("authorization")),
	}
	x.pods, x.taking, x.moved = newPods(x), make(chan struct{}), make(chan struct{}, 1)
	x.succession = &succession{dir: o.Succession, log: o.Log.WithName("succession")}
	x.entrances = &entrances{sockets: sockets, borrow: x.succession.borrow, open: map[NamespaceID]*entrance{}}
	x.metrics.watch(o.Registerer, x)
	return x, nil
}

// Run serves until ctx ends, and then drains: once there is another proxy to take what comes, it stops accepting, tells
// peers to go elsewhere, and waits for connections until they end or the drain time is over.
func (x *Proxy) Run(ctx context.Context) {
	// What is open during the drain still is subject to policy.
	watching, stopWatching := context.WithCancel(context.Background())
	x.running.Go(func() { x.watch(watching) })
	x.running.Go(func() { x.countBytes(watching) })
	if x.succession.claim(x.lend) {
		x.take(true) // before there are pods, which need not wait then
	}
	x.running.Go(func() { x.succeed(ctx) })
	for ctx.Err() == nil {
		err := zds.Run(ctx, x.o.Socket, zds.Proxy{Namespace: x.o.PodNamespace, Name: x.o.PodName, Confines: true}, x.pods, x.o.Log.WithName("zds"))
		if err == nil {
			break
		}
		// An agent that we do not understand, such as a newer one, is no reason to leave the pods that we have: to end would refuse
		// their connections for as long as the old ones drain. We are not ready, and whoever replaces one of the two mends it.
		x.o.Log.Error(err, "agent not understood, will connect again", "retry", protocolPause.String())
		select {
		case <-ctx.Done():
		case <-time.After(protocolPause):
		}
	}
	x.drain()
	stopWatching()
	x.running.Wait()
	x.succession.lending.Wait()
	x.entrances.borrowing.Wait()
	x.sockets.own.Close()
}

func (x *Proxy) drain() {
	ctx, cancel := context.WithTimeout(context.Background(), x.o.Drain)
	defer cancel()
	x.pods.close()
	pods := x.pods.list()
	x.o.Log.Info("draining", "pods", len(pods), "connections", len(x.connections.list()), "deadline", x.o.Drain.String())
	x.awaitSuccessor(x.o.Drain)
	graces := map[*pod]time.Duration{}
	for _, p := range pods { // before the next one becomes the elder: from then on nobody knows any more who has what
		if !x.entrances.shared(p.entrance) {
			graces[p] = lastTurn
		}
	}
	x.succession.resign()
	x.entrances.end()
	var draining sync.WaitGroup
	for _, p := range pods {
		draining.Go(func() { p.drain(ctx, graces[p]) })
	}
	draining.Wait()
	x.o.Log.Info("drained")
}

// Waits lists what is missing before the proxy can serve; nothing means that it is ready.
func (x *Proxy) Waits() []string {
	var out []string
	if x.o.Synced != nil {
		select {
		case <-x.o.Synced:
		default:
			out = append(out, "discovery")
		}
	}
	return append(append(out, x.pods.waits()...), x.unproved()...)
}

// unproved says for which identities of pods here there is no certificate yet: while an older proxy has them, it serves those pods better. It says so at the
// start only. An identity that the issuer refused counts as had, because it would be no better later; one that it could not be asked about does not.
func (x *Proxy) unproved() []string {
	restored := x.o.Keeper != nil && x.o.Keeper.Restored()
	if x.proved.Load() && !restored {
		return nil
	}
	v, here := x.o.View.Load(), map[mesh.Identity]struct{}{}
	for _, p := range x.pods.list() {
		if self := p.lookup(v); self != nil {
			here[self.Identity()] = struct{}{}
		}
	}
	why := map[string]error{}
	if len(here) > 0 {
		for _, s := range x.o.Certificates.States() {
			if s.Valid || s.Refused {
				delete(here, s.Identity)
			}
			why[s.Identity.String()] = s.Err
		}
	}
	if len(here) > 0 {
		const most = 5 // the others are only counted
		var names []string
		for id := range here {
			names = append(names, id.String())
		}
		slices.Sort(names)
		text := fmt.Sprintf("certificates of %d identities: %s", len(names), strings.Join(names[:min(most, len(names))], ", "))
		if err := why[names[0]]; err != nil {
			text += fmt.Sprintf(" (about the first: %v)", err)
		}
		return []string{text}
	}
	if !restored && x.pods.known() {
		x.proved.Store(true)
	}
	return nil
}

// watch follows the view and the pods: it ends connections that policy has turned against, sends peers of pods that are about to end elsewhere,
// and keeps the certificates of the pods that are here.
func (x *Proxy) watch(ctx context.Context) {
	ailing, identities, of := map[*pod]bool{}, map[mesh.Identity]struct{}{}, map[*pod]mesh.Identity{}
	for {
		v := x.o.View.Load()
		x.connections.rejudge(v)
		ailingNow, identitiesNow, ofNow := map[*pod]bool{}, map[mesh.Identity]struct{}{}, map[*pod]mesh.Identity{}
		for _, p := range x.pods.all() {
			self := p.lookup(v)
			if self == nil {
				// What it still does may ask for its certificate, which nobody would give up after that.
				if id, known := of[p]; known {
					identitiesNow[id], ofNow[p] = struct{}{}, id
				}
				continue
			}
			id := self.Identity()
			if _, known := identities[id]; !known {
				x.o.Certificates.Prefetch(id)
			}
			identitiesNow[id], ofNow[p] = struct{}{}, id
			if self.Unhealthy && !ailing[p] {
				// A pod that is ending, or that cannot serve for now: what peers open from here on belongs elsewhere. Those who still
				// mean this pod connect again, which is welcome.
				p.tunnelsIn.goAway()
			}
			ailingNow[p] = self.Unhealthy
		}
		for id := range identities {
			if _, still := identitiesNow[id]; !still {
				x.o.Certificates.Drop(id)
			}
		}
		ailing, identities, of = ailingNow, identitiesNow, ofNow
		select {
		case <-v.Superseded():
		case <-x.moved:
		case <-ctx.Done():
			return
		}
	}
}

// podsChanged has watch look at the pods, though the view be the same. It does not wait.
func (x *Proxy) podsChanged() {
	select {
	case x.moved <- struct{}{}:
	default:
	}
}

// tunnelSettings are those of every tunnel, in and out.
func (x *Proxy) tunnelSettings() hbone.Settings {
	s := hbone.DefaultSettings()
	s.Observe = func(e hbone.Event) { x.metrics.tunnelEvents.WithLabelValues(string(e)).Inc() }
	return s
}
