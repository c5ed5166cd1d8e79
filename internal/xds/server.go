// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"context"
	"sync"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Caller is who opened a stream, as far as its credentials prove it.
type Caller struct {
	Namespace, ServiceAccount string
	// Pod, PodUID and Node are empty when the token is not bound to a pod.
	Pod, PodUID, Node string
}

// owner is whose share of the turns for large responses the caller's are.
func (c Caller) owner() turnOwner {
	of := turnOwner{namespace: c.Namespace, account: c.ServiceAccount, node: c.Node}
	if of.node == "" {
		of.pod = c.PodUID
	}
	return of
}

// ServerOptions configure a Server. Only Authenticate is required.
type ServerOptions struct {
	Log logr.Logger
	// Authenticate says who calls; Credentials reads the call's token from its context. An error refuses the stream
	// before any byte of state was sent. It is called for at most MaxAuthenticating streams at a time, each bounded by
	// AuthenticateTimeout.
	Authenticate func(ctx context.Context) (Caller, error)
	// Rejected is told of each response that a subscriber rejected, in whole or in part, or nil. It must not block.
	Rejected func(Rejection)
	// Registerer takes the server's metrics, or nil.
	Registerer prometheus.Registerer
	// AckTimeout is how long a subscriber may take to acknowledge a response before its stream is ended, so that it
	// begins again. 0 means 2 min.
	AckTimeout time.Duration
	// TurnTimeout is the same for a large response while others, which do not fit beside it, wait for theirs, unless it is taken at a pace that has all
	// of it out within AckTimeout: 30 MB at 2 Mbit/s. 0 means 20 s.
	TurnTimeout time.Duration
	// AuthenticateTimeout bounds one call of Authenticate. 0 means 10 s.
	AuthenticateTimeout time.Duration
	// MaxAuthenticating bounds the calls of Authenticate under way; more streams wait. 0 means 64.
	MaxAuthenticating int
	// MaxSubscribers bounds the streams; more are refused, and try again, perhaps at another replica. 0 means 20 000,
	// four times the nodes that Kubernetes supports in one cluster.
	MaxSubscribers int
	// FirstRequest is how long a stream may take to ask for something before it is ended. 0 means 20 s.
	FirstRequest time.Duration
	// Proxies says of which callers it is known that they are node proxies: of the places for streams a quarter is kept for them, and another one for them and gateways. nil means of none.
	Proxies func(Caller) bool
}

// Server tells subscribers about the mesh. Its methods may be called from anywhere; Update from one goroutine at a time
// (calls are serialised, but their order is the caller's affair).
type Server struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer

	options ServerOptions
	log     logr.Logger
	metrics *serverMetrics

	ready     chan struct{}
	readyOnce sync.Once
	closed    chan struct{}
	closeOnce sync.Once
	receivers sync.WaitGroup // each stream, and its receiver and senders, which may end after its handler returned
	admitting chan struct{}  // one token for each Authenticate under way
	large     *turns         // for large responses that are not acknowledged yet
	words     *words         // names that are kept for subscribers

	rouse rouser

	largeFrom int // names from which a response is large; largeNames but in tests
	walkBurst int // that of each stream's walks; walkBurst but in tests

	// writing is held by Update throughout, so that what it read of the tables stays true while it encodes.
	writing sync.Mutex
	routes  map[mesh.GatewayKey]encodedRoutes // of each gateway; for who holds writing

	mu          sync.RWMutex // before subscriber.mu
	tables      map[string]*table
	subscribers map[*subscriber]struct{}
	places      *places
	gateways    map[account]int // how many run as each
	closing     bool            // no more subscribers, nor receivers
}

// NewServer makes a server that knows nothing yet and answers nobody before SetReady.
func NewServer(o ServerOptions) *Server {
	if o.AckTimeout == 0 {
		o.AckTimeout = 2 * time.Minute
	}
	if o.TurnTimeout == 0 {
		o.TurnTimeout = 20 * time.Second
	}
	if o.AuthenticateTimeout == 0 {
		o.AuthenticateTimeout = 10 * time.Second
	}
	if o.MaxAuthenticating == 0 {
		o.MaxAuthenticating = 64
	}
	if o.MaxSubscribers == 0 {
		o.MaxSubscribers = 20_000
	}
	if o.FirstRequest == 0 {
		o.FirstRequest = 20 * time.Second
	}
	return &Server{
		options:   o,
		log:       o.Log,
		metrics:   newServerMetrics(o.Registerer),
		ready:     make(chan struct{}),
		closed:    make(chan struct{}),
		admitting: make(chan struct{}, o.MaxAuthenticating),
		large:     newTurns(maxLarge),
		words:     newWords(maxOwnWords, maxWords),
		largeFrom: largeNames,
		walkBurst: walkBurst,
		tables: map[string]*table{
			addressURL: newTable(), authorizationURL: newTable(), gatewayURL: newTable(), bundleURL: newTable(),
		},
		subscribers: map[*subscriber]struct{}{},
		places:      newPlaces(o.MaxSubscribers),
		gateways:    map[account]int{},
		routes:      map[mesh.GatewayKey]encodedRoutes{},
	}
}

// Register offers the server on a gRPC server, which must be that of Serve: its codec knows our responses.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	discovery.RegisterAggregatedDiscoveryServiceServer(r, s)
}

// SetReady lets streams be answered: what Update was told so far is the world. Later calls do nothing.
func (s *Server) SetReady() { s.readyOnce.Do(func() { close(s.ready) }) }

// SetDoubt says of which addresses it is not known yet whether they exist: doubt says so of a name that Update did not tell of. While there is doubt,
// responses of addresses are marked as partial, and subscribers that hold such a name are not told that it is gone. nil means that all is known: what is
// still not there is gone, and whoever was told a part hears that it is complete. Without a call nothing is in doubt. doubt must not block.
func (s *Server) SetDoubt(doubt func(name string) bool) {
	s.writing.Lock() // after what Update is telling
	defer s.writing.Unlock()
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tables[addressURL]
	t.doubt = doubt
	for sub := range s.subscribers {
		sub.mu.Lock()
		if subscription := sub.types[addressURL]; subscription != nil {
			subscription.settle(t, now)
		}
		sub.mu.Unlock()
		sub.notify()
	}
}

// Close ends all streams and waits until nothing of them runs. Update may still be called, and tells nobody.
// The gRPC server on which the server is registered must be stopped as well.
func (s *Server) Close() {
	s.mu.Lock()
	s.closing = true
	s.closeOnce.Do(func() { close(s.closed) })
	for sub := range s.subscribers {
		sub.notify()
	}
	s.mu.Unlock()
	s.receivers.Wait()
}

// isClosed says whether Close was called.
func (s *Server) isClosed() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}

// Subscribers counts the streams that are being served.
func (s *Server) Subscribers() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.subscribers)
}

// Update changes what subscribers are told. It encodes, then takes note for every subscriber, and never waits for one.
// A value that cannot be encoded is logged and counted, and what was said under its name before stays.
func (s *Server) Update(d mesh.Delta) {
	s.writing.Lock()
	defer s.writing.Unlock()

	c := changes{server: s}
	for uid, w := range d.Workloads {
		c.add(kindWorkload, uid, w == nil, func() (*entry, error) { return workloadEntry(w) })
	}
	for key, svc := range d.Services {
		c.add(kindService, key.String(), svc == nil, func() (*entry, error) { return serviceEntry(svc) })
	}
	for key, p := range d.Policies {
		c.add(kindPolicy, key, p == nil, func() (*entry, error) { return policyEntry(p) })
	}
	for key, g := range d.Gateways {
		c.add(kindGateway, key.String(), g == nil, func() (*entry, error) {
			e, routes, err := gatewayEntry(g, s.routes[key])
			if err == nil {
				s.routes[key] = routes
			}
			return e, err
		})
		if g == nil {
			delete(s.routes, key)
		}
	}
	for domain, b := range d.Bundles {
		c.add(kindBundle, domain, b == nil, func() (*entry, error) { return bundleEntry(b) })
	}
	if len(c.puts)+len(c.removals) == 0 {
		return
	}

	s.enter(c)
}

// enter puts changes into the tables, takes note for every subscriber, and has those woken whom there is something to tell.
func (s *Server) enter(c changes) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	edges := map[string][]edge{}
	for _, r := range c.removals {
		if old := s.tables[r.url].remove(r.name); old != nil {
			edges[r.url] = append(edges[r.url], edge{old, nil})
		}
	}
	for _, e := range c.puts {
		url := e.kind.url()
		edges[url] = append(edges[url], edge{s.tables[url].put(e), e})
	}
	for _, e := range edges[gatewayURL] {
		s.count(e.before, -1)
		s.count(e.after, 1)
	}
	for url, t := range s.tables {
		s.metrics.resources.WithLabelValues(short(url)).Set(float64(len(t.entries)))
	}
	batches := map[string]func() *batch{} // of gateways, of which not everybody may see each, nobody can want everything
	for url, list := range edges {
		batches[url] = sync.OnceValue(func() *batch {
			names := make([]string, 0, len(list))
			for _, e := range list {
				names = append(names, e.name())
			}
			return newBatch(names, s.tables[url], s.largeFrom)
		})
	}
	due := make([]*subscriber, 0, len(s.subscribers))
	for sub := range s.subscribers {
		wake := false
		sub.mu.Lock()
		for url, list := range edges {
			if subscription := sub.types[url]; subscription != nil {
				if !subscription.takes(batches[url], now) {
					for _, e := range list {
						subscription.changed(e.before, e.after, now)
					}
				}
				wake = wake || subscription.due() // else its acknowledgement wakes
			}
		}
		sub.mu.Unlock()
		if wake {
			due = append(due, sub)
		}
	}
	if !s.closing { // else Close has woken them
		s.rouse.all(due, &s.receivers)
	}
}

// edge is an entry as it was and as it is now; one of both may be nil.
type edge struct{ before, after *entry }

func (e edge) name() string {
	if e.after != nil {
		return e.after.name
	}
	return e.before.name
}

// changes are the real differences of one Update, encoded.
type changes struct {
	server   *Server
	puts     []*entry
	removals []removal
}

type removal struct{ url, name string }

func (c *changes) add(k kind, name string, gone bool, encode func() (*entry, error)) {
	// Only Update writes to the tables, and it is here: reading them needs no lock.
	old := c.server.tables[k.url()].entries[name]
	if gone {
		if old != nil && old.kind == k {
			c.removals = append(c.removals, removal{k.url(), name})
		}
		return
	}
	e, err := encode()
	if err != nil {
		c.server.metrics.unencodable.WithLabelValues(short(k.url())).Inc()
		c.server.log.Error(err, "resource cannot be encoded", "type", short(k.url()), "name", name)
		return
	}
	c.server.metrics.encoded.WithLabelValues(short(k.url())).Inc()
	if old == nil || old.version != e.version || old.kind != e.kind {
		c.puts = append(c.puts, e)
	}
}
