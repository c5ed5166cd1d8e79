// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	gatewayhttp "github.com/isthmus-mesh/isthmus/gateway/http"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/reach"
)

// maxLanes bounds over how many kept connections at a time requests to one other network take turns: as many as pods that inner tunnels reach there.
const maxLanes = 64

// tunnelCarrier carries requests to endpoints in the mesh: in a tunnel to the node proxy of a pod of our own network, or in a double one through the gateway of another network. Connections
// are kept, as those of any other client; tunnels are shared by all of them.
type tunnelCarrier struct {
	gatewayhttp.Carrier
	server *Server
	turn   atomic.Uint64
	places *places

	mu    sync.Mutex // hold for over
	over  bool
	dials sync.WaitGroup

	farewells sync.WaitGroup
}

func newTunnelCarrier(s *Server) *tunnelCarrier {
	c := &tunnelCarrier{server: s, places: newPlaces()}
	c.Carrier = gatewayhttp.NewPlaced(s.o.HTTP, c.dial)
	return c
}

// Carry implements gatewayhttp.Carrier. Behind a gateway there are several pods, and a kept connection stays at one of them: so requests take turns in as many lanes as there are pods behind
// all gateways of that network, each with connections of its own, which inner tunnels lead to the pods that have the fewest.
func (c *tunnelCarrier) Carry(to gatewayhttp.Endpoint, r *http.Request) (*http.Response, error) {
	lane := uint64(0)
	if !to.Addr.IsValid() {
		lane = c.turn.Add(1) % uint64(min(max(reach.Behind(c.server.live.Load(), to.Workload), 1), maxLanes))
	}
	at := placeOf(to, lane)
	r.URL.Host = net.JoinHostPort(c.places.enter(at), strconv.Itoa(int(max(to.Port, 1))))
	defer c.places.leave(at)
	return c.Carrier.Carry(to, r)
}

// placeOf tells places apart: it holds all that makes connections to two endpoints different. It has no dash.
func placeOf(to gatewayhttp.Endpoint, lane uint64) string {
	w := to.Workload
	gateway := ""
	if w.NetworkGateway != nil {
		gateway = fmt.Sprint(*w.NetworkGateway)
	}
	// Who may be there (an identity or names of the service) and by which gateway is part of it: when these change, nothing goes on over what was checked by others.
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%s\n%s\n%q\n%s\n%d\n%d", w.UID, to.Addr, w.Identity(), to.Service.Key(), to.Service.SANs, gateway, to.Port, lane))
	return hex.EncodeToString(sum[:16])
}

// dial connects to an endpoint that was picked. A gateway with several pods is tried at another one of them, and one that is the only way once more after a pause; which other endpoint
// may do better is for others to choose.
func (c *tunnelCarrier) dial(ctx context.Context, place string, to gatewayhttp.Endpoint) (net.Conn, error) {
	if !c.begin() {
		return nil, errOver
	}
	defer c.dials.Done()
	s := c.server
	config := s.config.Load()
	timeout := s.o.Limits.ConnectTimeout
	if to.Others {
		timeout = s.o.Limits.AttemptTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	defer context.AfterFunc(s.hard, cancel)()
	more := false
	search := reach.Search[*reach.Conn]{
		Health: s.health, Random: rand.Uint64N, Once: to.Others,
		Decide: func(choice reach.Choice) (reach.Plan, *reach.Refusal) {
			if !more && !choice.Avoid.Empty() {
				return reach.Plan{}, &reach.Refusal{Status: http.StatusServiceUnavailable, Reason: reach.ReasonConnect, Err: errTried}
			}
			f := s.from(config, choice)
			if to.Addr.IsValid() {
				return f.ToWorkload(to.Workload, to.Addr, to.Service), nil
			}
			plan, refusal := f.ThroughGateway(to.Workload, to.Service, to.Port, to.Service.SANs)
			more = plan.GatewayOthers
			if refusal != nil {
				plan.Picked = "" // there is nothing to try
			}
			return plan, refusal
		},
		Dial: func(ctx context.Context, plan reach.Plan) (*reach.Conn, *reach.Failure) {
			return s.tunnels.Dial(ctx, s.o.Identity, plan, nil, config.network)
		},
		Down:   func(plan reach.Plan) { s.tunnels.Watch(s.o.Identity, plan) },
		Failed: func(reach.Plan, *reach.Refusal) { s.metrics.dialFailures.Inc() },
	}
	_, conn, refusal := search.Connect(ctx, netip.AddrPortFrom(netip.IPv4Unspecified(), to.Port))
	if refusal != nil {
		return nil, refusal
	}
	name, _, _ := net.SplitHostPort(place) // it was joined here
	at, _, _ := strings.Cut(name, "-")
	return &finishing{Conn: conn, carrier: c, gone: c.places.add(at, name, conn.Tunnel, conn.Leaving)}, nil
}

// errOver is for connections that a client library still wants for requests that have ended.
var errOver = errors.New("the gateway has ended")

// begin counts a dial, unless it is too late.
func (c *tunnelCarrier) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over {
		c.dials.Add(1)
	}
	return !c.over
}

// Forget closes the connections that are kept, and waits for those that are being made. Nothing may be carried any more.
func (c *tunnelCarrier) Forget() {
	c.mu.Lock()
	c.over = true
	c.mu.Unlock()
	c.dials.Wait()
	c.Carrier.Forget()
	c.farewells.Wait()
}

// errTried is never heard of: what was tried went wrong for a reason of its own.
var errTried = errors.New("the endpoint was tried")

// from is where the gateway's own connections begin.
func (s *Server) from(c *config, choice reach.Choice) *reach.From {
	v := s.live.Load()
	return &reach.From{View: v, Network: c.network, Workload: s.own(v, c), Choice: choice}
}

// webSelf is the gateway's own pod; nil if it is not known.
func (s *Server) webSelf() *mesh.Workload {
	c := s.config.Load()
	if c == nil {
		return nil
	}
	return s.own(s.live.Load(), c)
}

// finishing is a connection that says goodbye when it is closed.
type finishing struct {
	*reach.Conn
	carrier *tunnelCarrier
	gone    func()
	once    sync.Once
}

// Close ends it. It does not wait for the goodbye, which may take seconds: the library closes connections with locks held that all requests need.
func (f *finishing) Close() error {
	err := f.Conn.Close()
	f.once.Do(func() {
		f.gone()
		f.carrier.farewells.Go(f.Finish)
	})
	return err
}
