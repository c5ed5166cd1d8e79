// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/gateway/backendtls"
	gatewayhttp "github.com/isthmus-mesh/isthmus/gateway/http"
	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
	"github.com/isthmus-mesh/isthmus/internal/reach"
	"github.com/isthmus-mesh/isthmus/internal/relay"
	"github.com/isthmus-mesh/isthmus/internal/stranger"
	"github.com/isthmus-mesh/isthmus/internal/tracing"
)

// Options are what a Server needs and what can be tuned.
type Options struct {
	Log    logr.Logger // what happens to the gateway
	Access logr.Logger // one line per stream
	// Gateway names the configuration to follow, Identity is what the gateway proves to peers.
	Gateway  mesh.GatewayKey
	Identity mesh.Identity
	// Network is used if the configuration names none.
	Network string
	// Address is that of the gateway's own pod, by which endpoints are near or far, and waypoints its own cluster's; zero: all are alike, and a service without endpoints has no waypoint.
	Address netip.Addr
	// SlowStart is how long an endpoint that is new takes to get its whole share; 0: 30 s; negative: it gets it at once.
	SlowStart time.Duration
	Directory *directory.Live
	// Synced is closed when Directory holds all of a first answer; nil if it does from the beginning.
	Synced <-chan struct{}
	Source *mtls.Source
	// HBONE tunes outer connections. Observe is set by the Server.
	HBONE  hbone.Settings
	Limits Limits
	HTTP   gatewayhttp.Limits // of listeners for HTTP
	// Settle is how long a gateway that is told to end goes on as before, so that those who send it connections learn that it is
	// not ready any more. Drain is how long running streams may then go on.
	Settle, Drain time.Duration
	// Parting is how long a service that left a waypoint is served to those who have not heard of it; 0: a minute. What runs then goes on for Drain.
	Parting time.Duration
	Metrics prometheus.Registerer
	// Tracer makes a span of each stream and each request; nil: none.
	Tracer *tracing.Tracer

	// The world outside; the zero values are TCP and the clock.
	Dial   func(ctx context.Context, to netip.AddrPort) (relay.Conn, error)
	Listen func(bind uint16) (net.Listener, error)
	// ListenUDP binds a port for datagrams, DialUDP makes a socket for those of one client to an endpoint.
	ListenUDP func(bind uint16) (*net.UDPConn, error)
	DialUDP   func(to netip.AddrPort) (*net.UDPConn, error)
	Now       func() time.Time
}

// Server is one gateway process's data plane.
type Server struct {
	o       Options
	live    *directory.Live
	tls     *tls.Config
	metrics *metrics

	config      atomic.Pointer[config] // written by Run
	partings    partings               // owned by Run
	strays      strays
	backends    atomic.Pointer[backendtls.Table] // written by Run
	balancer    *balancer
	idlers      idlers
	strangers   *stranger.Room
	addresses   *quota[netip.Prefix] // of connections that prove no identity
	turns       stranger.Turns       // of handshakes
	connections *quota[struct{}]
	peers       *quota[mesh.Identity] // connections of each identity
	streamQuota *quota[mesh.Identity]
	services    *quota[mesh.ServiceKey] // streams to each service
	clients     *quota[netip.Addr]      // of ports for UDP, by address
	crowd       crowd
	streams     *streams
	sockets     sockets
	rejudged    chan struct{} // there is something if streams are to be judged anew

	hard context.Context // ends when what still runs is to be cut
	cut  context.CancelFunc
	wait sync.WaitGroup // drains of listeners that the configuration dropped

	draining    atomic.Bool
	settled     atomic.Bool            // it drains, and takes no more streams
	unboundText atomic.Pointer[string] // why a listener is not bound; nil if all are

	web     *gatewayhttp.Server
	tunnels *reach.Tunnels // to endpoints in the mesh
	health  *reach.Health

	listeners map[uint16]*listener // for HBONE, by bind port; owned by Run
	doors     map[uint16]*door     // for HTTP, TLS and TCP, by bind port; owned by Run
	udpPorts  map[uint16]*udpPort  // by bind port; owned by Run
	retryIn   time.Duration        // pause before the next attempt to bind; owned by Run
}

// errIncomplete is a mistake of the wiring.
var errIncomplete = errors.New("gateway options: Directory, Source, Gateway, Identity and Metrics are needed")

// NewServer makes a Server; Run starts it.
func NewServer(o Options) (*Server, error) {
	if o.Directory == nil || o.Source == nil || o.Metrics == nil || o.Identity.IsZero() || o.Gateway == (mesh.GatewayKey{}) {
		return nil, errIncomplete
	}
	if o.Dial == nil {
		o.Dial = dialTCP
	}
	if o.Listen == nil {
		o.Listen = listenTCP
	}
	if o.ListenUDP == nil {
		o.ListenUDP = listenUDP
	}
	if o.DialUDP == nil {
		o.DialUDP = dialUDP
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Parting = cmp.Or(o.Parting, defaultParting)
	o.Limits = o.Limits.withDefaults()
	s := &Server{
		o:           o,
		live:        o.Directory,
		tls:         o.Source.Server(o.Identity),
		balancer:    newBalancer(o.Now),
		addresses:   newQuota[netip.Prefix](math.MaxInt, o.Limits.ConnectionsPerAddress),
		strangers:   stranger.NewRoom(o.Limits.Handshakes, o.Limits.HandshakesPerAddress),
		turns:       stranger.NewTurns(handshakeTurns),
		connections: newQuota[struct{}](o.Limits.Connections, o.Limits.Connections),
		peers:       newQuota[mesh.Identity](math.MaxInt, o.Limits.ConnectionsPerPeer),
		streamQuota: newQuota[mesh.Identity](o.Limits.Streams, o.Limits.StreamsPerPeer),
		services:    newQuota[mesh.ServiceKey](o.Limits.Streams, o.Limits.StreamsPerService),
		streams:     newStreams(),
		rejudged:    make(chan struct{}, 1),
		partings:    partings{},
		listeners:   map[uint16]*listener{},
		doors:       map[uint16]*door{},
		udpPorts:    map[uint16]*udpPort{},
		clients:     newQuota[netip.Addr](o.Limits.DatagramClients, o.Limits.DatagramClientsPerAddress),
	}
	s.crowd.now = o.Now
	if o.SlowStart != 0 {
		s.balancer.slow = o.SlowStart
	}
	s.metrics = newMetrics(o.Metrics, s)
	s.o.HBONE.Observe = s.metrics.event
	s.health = reach.NewHealth(o.Now, rand.Float64)
	shared := s.o.HBONE
	shared.MaxStreams = tunnelSharers
	s.tunnels = reach.NewTunnels(reach.TunnelOptions{
		Certificates: o.Source, Connect: o.Dial, Settings: shared, Health: s.health,
		Unwidened: func(err error) { o.Log.V(1).Info("no further tunnel over a long way", "cause", err.Error()) },
		Cut: func(lane int, why *reach.Refusal) {
			s.metrics.lanesCut.WithLabelValues(string(why.Reason)).Inc()
			o.Log.Info("one of several tunnels over a long way is silent, the others are used", "lane", lane, "reason", string(why.Reason), "cause", why.Err.Error())
		},
	})
	s.web = gatewayhttp.NewServer(gatewayhttp.Options{
		Tunnels: newTunnelCarrier(s), Self: s.webSelf,
		Log: o.Log.WithName("http"), Access: o.Access, Directory: o.Directory, Network: s.webNetwork, Admit: s.admitRequest, AdmitTo: s.admitRequestTo,
		Limits: o.HTTP, Metrics: o.Metrics, Tracer: o.Tracer, Now: o.Now, Name: o.Identity.String() + " " + o.Gateway.String(),
	})
	s.hard, s.cut = context.WithCancel(context.Background())
	return s, nil
}

// tunnelSharers is how many streams share one of the gateway's tunnels: as many as may hold a whole window of a stream each, 4 MiB, of the 16 MiB of a connection (hbone.Settings).
// With more, a few clients that read nothing would hold up those of others.
const tunnelSharers = 4

// Run serves until ctx ends, and then drains: it stays as it is for Settle while readiness already says no, then takes no more
// connections and streams, and returns when the last stream has ended or Drain is over.
func (s *Server) Run(ctx context.Context) {
	defer s.tunnels.Close() //nolint:errcheck // it says how tunnels ended, of which nobody needs to know any more
	defer s.web.Close()
	defer s.wait.Wait()
	judging := make(chan struct{})
	defer func() { <-judging }()
	defer s.cut()
	go func() {
		defer close(judging)
		s.judgeStreams()
	}()
	s.o.Source.Prefetch(s.o.Identity)
	told := ctx.Done()
	var settled <-chan time.Time
	for {
		view, now := s.live.Load(), s.o.Now()
		s.follow(view, now)
		var retry <-chan time.Time
		if s.retryIn > 0 {
			retry = time.After(s.retryIn)
		}
		var parting <-chan time.Time
		if in, some := s.partings.next(now, s.o.Parting, s.lasting()); some {
			parting = time.After(in)
		}
		select {
		case <-view.Superseded():
		case <-retry:
		case <-parting:
		case <-told:
			s.draining.Store(true)
			s.o.Log.Info("draining", "settle", s.o.Settle.String(), "drain", s.o.Drain.String(), "streams", s.streamQuota.used())
			told, settled = nil, time.After(s.o.Settle)
		case <-settled:
			s.end()
			return
		}
	}
}

// follow brings configuration and listeners up to a view, as it is now: whose time is not over then, has to be looked at again.
func (s *Server) follow(view *directory.View, now time.Time) {
	s.balancer.sweep(func(uid string) bool { return view.Workload(uid) != nil })
	g := view.Gateway(s.o.Gateway)
	before := s.config.Load()
	if g == nil && before != nil {
		g = before.told // it keeps what it had
	}
	changed := g != nil && (before == nil || before.told != g)
	if changed && before != nil {
		s.partings.note(before.told, g, now)
	}
	if s.part(before, now) || changed {
		c := newConfig(s.partings.with(g), s.o.Network, s.o.Identity.TrustDomain, before)
		c.told = g
		c.late, c.lateToOthers = s.partings.late(now, s.o.Parting)
		c.strayed = func(uid string) bool { return s.strays.has(c, uid, s.o.Now(), s.o.Parting) }
		c.canonical = s.o.Source.Canonical
		s.secureBackends(c.gateway)
		s.web.SetRoutes(c.routes)
		s.config.Store(c)
		if before != nil && c.laws != before.laws {
			s.rejudge()
			s.web.Rejudge()
		}
		s.o.Log.Info("configuration applied", "exports", len(g.Exports), "listeners", len(g.Listeners), "network", c.network,
			"policies", len(g.Policies), "guardedServices", len(g.ServicePolicies))
	} else if before == nil {
		return
	}
	s.strays.note(s.config.Load(), view, now, s.o.Parting)
	if changed || s.retryIn > 0 {
		s.bind(s.config.Load().gateway.Listeners)
	}
}

// lasting is how long what runs to a service that left may go on.
func (s *Server) lasting() time.Duration { return max(s.o.Parting, s.o.Drain) }

// part says whether the time of a service that left is over: for new streams, or for all.
func (s *Server) part(before *config, now time.Time) bool {
	gone := s.partings.forget(now, s.lasting())
	late, lateToOthers := s.partings.late(now, s.o.Parting)
	return gone || before != nil && (len(late) != len(before.late) || len(lateToOthers) != len(before.lateToOthers))
}

// bind makes the listeners those of the configuration: new ones first, then those that are gone are drained. A port that changes from HBONE to
// another protocol, or to it, is given up first, as it cannot be two of them.
func (s *Server) bind(listeners []mesh.Listener) {
	wanted := map[uint16]mesh.Listener{}
	var failures error
	for _, l := range listeners {
		switch {
		case l.Protocol == mesh.ListenerHBONE, l.Protocol == mesh.ListenerWaypoint:
			wanted[l.Bind] = l
			s.dropDoor(l.Bind)
		case l.Protocol.HTTP() || l.Protocol.TLS() || l.Protocol == mesh.ListenerTCP:
			s.dropListener(l.Bind)
		case l.Protocol == mesh.ListenerUDP:
		default:
			failures = errors.Join(failures, fmt.Errorf("listener %q: protocol %d is not known", l.Name, l.Protocol))
		}
	}
	failures = errors.Join(failures, s.bindDoors(listeners), s.bindDatagrams(listeners))
	for bind, want := range wanted {
		waypoint := want.Protocol == mesh.ListenerWaypoint
		if l := s.listeners[bind]; l != nil && (l.visits != nil) == waypoint {
			continue
		}
		s.dropListener(bind)
		l, err := s.listen(bind, waypoint)
		if err != nil {
			failures = errors.Join(failures, fmt.Errorf("listener %q: %w", want.Name, err))
			continue
		}
		s.listeners[bind] = l
		s.o.Log.Info("listening", "listener", want.Name, "port", want.Port, "bind", bind)
	}
	s.bound(failures)
	for bind := range s.listeners {
		if _, ok := wanted[bind]; !ok {
			s.dropListener(bind)
		}
	}
}

// bound notes whether all listeners are bound, or when to try again.
func (s *Server) bound(failures error) {
	if failures == nil {
		s.retryIn = 0
		s.unboundText.Store(nil)
		return
	}
	s.retryIn = min(max(2*s.retryIn, time.Second), 30*time.Second)
	text := failures.Error()
	s.unboundText.Store(&text)
	s.o.Log.Error(failures, "not all listeners are bound", "retryIn", s.retryIn.String())
}

// dropListener drains a listener for HBONE, if there is one.
func (s *Server) dropListener(bind uint16) {
	if l := s.listeners[bind]; l != nil {
		delete(s.listeners, bind)
		l.socket.Close()
		s.drop(bind, l.drain)
	}
}

func (s *Server) drop(bind uint16, drain func(context.Context)) {
	s.o.Log.Info("draining a listener that is gone", "bind", bind)
	s.wait.Go(func() {
		ctx, cancel := context.WithTimeout(s.hard, s.o.Drain)
		defer cancel()
		drain(ctx)
	})
}

// end takes no more connections and streams, and waits for those that there are.
func (s *Server) end() {
	s.settled.Store(true)
	ctx, cancel := context.WithTimeout(s.hard, s.o.Drain)
	defer cancel()
	// Time up cuts the streams too, not only their connections: a stream that is still being set up must not outlive them.
	defer context.AfterFunc(ctx, s.cut)()
	var drains sync.WaitGroup
	for _, l := range s.listeners {
		drains.Go(func() { l.drain(ctx) })
	}
	for _, d := range s.doors {
		d.socket.Close()
		drains.Go(func() { d.behind.Load().drain(ctx) })
	}
	for _, p := range s.udpPorts {
		drains.Go(func() { p.drain(ctx) })
	}
	drains.Go(s.wait.Wait) // listeners that went before have streams too
	drains.Wait()
	s.o.Log.Info("drained", "cut", ctx.Err() != nil)
}
