// SPDX-License-Identifier: Apache-2.0

package http

import (
	"iter"
	"net/http/httputil"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/gateway/backendtls"
	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/tracing"
)

// Options are what a Server needs and what can be tuned.
type Options struct {
	Log    logr.Logger // what happens to the server
	Access logr.Logger // one line per request
	// Directory knows the endpoints, Network says in which network we are.
	Directory *directory.Live
	Network   func() string
	// Admit, if not nil, decides whether a client may ask this, as it came, of a listener; its error is the reason why not.
	Admit func(from netip.Addr, port uint16, r *Asked) error
	// AdmitTo, if not nil, decides the same about a port of the service that a request or a copy of one would go to, as it would be sent.
	AdmitTo func(from netip.Addr, service mesh.ServiceKey, port uint16, r *Asked) error
	// Tunnels, if not nil, carries requests to endpoints that are in the mesh, and lets those of other networks be picked; else what is there is asked in plain HTTP. Self, if not
	// nil, is the gateway's own pod, by which endpoints are near or far.
	Tunnels Carrier
	Self    func() *mesh.Workload
	Limits  Limits
	// Name is what all pods of the gateway have in common and other gateways have not: requests that have come through it before are known by it. Empty: each Server is one of its own.
	Name    string
	Metrics prometheus.Registerer
	// Tracer makes a span of each request; nil: none. Backends are told of it, or else of what the client said.
	Tracer *tracing.Tracer
	// Carrier and Now are the world outside; the zero values are net/http's Transport and the clock.
	Carrier Carrier
	Now     func() time.Time
}

// Server is what all ports share: the way to backends.
type Server struct {
	o        Options
	proxy    *httputil.ReverseProxy // for requests that ask for another protocol
	buffers  *buffers
	outliers outliers
	metrics  *metrics
	mirrors  *pool[string] // copies under way
	copies   sync.WaitGroup
	judges   sync.WaitGroup // of requests that run
	copied   *pool[string]  // bytes of bodies that are kept for copies by requests that run
	replayed *pool[string]  // the same for other attempts
	// unprocessed is the same for what an endpoint in HTTP/2 may say that it has not processed. It is taken by all uploads to these, and so must leave to rules that retry what is theirs.
	unprocessed *pool[string]
	heads       *pool[asker] // bytes of what requests that run hold, but for bodies
	// headsFollow says that how much that may be depends on the process's limit of memory.
	headsFollow bool
	budgets     budgets
	standing    standing
	backends    atomic.Pointer[backendtls.Table]
	via         []string // what the gateway calls itself to others, one value
	library     bool     // net/http reads all requests, which tests compare with
}

// SetBackends has backends from now on spoken to by another table, and gives up what is kept for settings that are gone with it. Requests that run are not touched.
func (s *Server) SetBackends(t *backendtls.Table, gone []*backendtls.Settings) {
	s.backends.Store(t)
	for _, settings := range gone {
		s.o.Carrier.Retire(settings)
		if s.o.Tunnels != nil {
			s.o.Tunnels.Retire(settings)
		}
	}
}

// SetRoutes says which routes there are, of all ports and services. Only they have series from now on: those of others end, and requests that run by a route that has gone count as "other".
func (s *Server) SetRoutes(routes iter.Seq[mesh.RouteKey]) { s.metrics.keep(routes) }

// NewServer makes a Server; Port makes what is served.
func NewServer(o Options) *Server {
	follow := o.Limits.HeaderMemory == 0
	o.Limits = o.Limits.withDefaults()
	if o.Carrier == nil {
		o.Carrier = NewTransports(o.Limits, nil)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Server{
		o: o, outliers: outliers{now: o.Now}, metrics: newMetrics(o.Metrics), buffers: newBuffers(), via: viaOf(o.Name),
		mirrors: newPool[string](int64(o.Limits.Mirrors)), copied: newPool[string](o.Limits.BodyMemory), replayed: newPool[string](o.Limits.BodyMemory), unprocessed: newPool[string](o.Limits.BodyMemory),
		heads: newHeads(o.Limits.HeaderMemory), headsFollow: follow,
	}
	s.proxy = &httputil.ReverseProxy{
		Rewrite: s.rewrite, Transport: roundTripper{s}, ModifyResponse: s.answered, ErrorHandler: s.failed,
		BufferPool: s.buffers, ErrorLog: quietLog(o.Log),
	}
	return s
}

func (s *Server) network() string { return s.o.Network() }

// Close gives back connections that are kept for later, and waits for copies of requests that are under way, and for a Rejudge. No port may serve any more.
func (s *Server) Close() {
	s.copies.Wait()
	s.judges.Wait()
	s.o.Carrier.Forget()
	if s.o.Tunnels != nil {
		s.o.Tunnels.Forget()
	}
}
