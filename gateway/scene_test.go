// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"

	gatewayhttp "github.com/isthmus-mesh/isthmus/gateway/http"
	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

const (
	hostname  = "cart.shop.svc.cluster.local"
	authority = hostname + ":80"
	patience  = 20 * time.Second // for things that take milliseconds
)

var (
	gatewayID = mesh.Identity{TrustDomain: "cluster.local", Namespace: "edge", ServiceAccount: "west"}
	clientID  = mesh.Identity{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "till"}
	strangeID = mesh.Identity{TrustDomain: "strange.example", Namespace: "shop", ServiceAccount: "till"}
	podID     = mesh.Identity{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "cart"}
	cartKey   = mesh.ServiceKey{Namespace: "shop", Hostname: hostname}
)

// scene is a gateway with everything around it real but the cluster: TLS, HBONE and TCP over the loopback.
type scene struct {
	t       *testing.T
	live    *directory.Live
	source  *mtls.Source // gateway, pods and clients of cluster.local
	strange *mtls.Source // clients of a trust domain that is trusted, but not allowed
	server  *Server
	logs    *lines
	metrics *prometheus.Registry
	stop    context.CancelFunc
	ended   chan struct{}

	mu      sync.Mutex
	at      map[netip.AddrPort]string // where endpoints really listen
	black   map[netip.AddrPort]bool   // endpoints that never answer
	binds   map[uint16]string         // where listeners really are
	packets map[uint16]netip.AddrPort // the same for UDP
	failing map[uint16]bool           // ports that cannot be bound
	dials   []netip.AddrPort
	wire    bytes.Buffer // what the gateway sent to endpoints and got from them
}

// newScene starts a gateway that exports the services cart and its own namespace's; change may set options.
func newScene(t *testing.T, change func(*Options)) *scene {
	t.Helper()
	ca, strangeCA := newIssuer(t), newIssuer(t)
	s := &scene{
		t: t, live: directory.NewLive(), logs: &lines{}, metrics: prometheus.NewRegistry(), ended: make(chan struct{}),
		source: mtls.NewSource(ca, mtls.SourceOptions{}), strange: mtls.NewSource(strangeCA, mtls.SourceOptions{}),
		at: map[netip.AddrPort]string{}, black: map[netip.AddrPort]bool{}, binds: map[uint16]string{}, packets: map[uint16]netip.AddrPort{}, failing: map[uint16]bool{},
	}
	t.Cleanup(s.source.Close)
	t.Cleanup(s.strange.Close)
	if err := s.source.SetBundle("strange.example", []*x509.Certificate{strangeCA.cert}, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.strange.SetBundle("cluster.local", []*x509.Certificate{ca.cert}, nil); err != nil {
		t.Fatal(err)
	}
	log := logr.FromSlogHandler(slog.NewJSONHandler(s.logs, &slog.HandlerOptions{Level: slog.LevelDebug - 10}))
	o := Options{
		Log: log, Access: log, Gateway: mesh.GatewayKey{Namespace: "edge", Name: "west"}, Identity: gatewayID, Network: "west",
		Directory: s.live, Source: s.source, Drain: patience, Metrics: s.metrics,
		Dial: s.dial, Listen: s.listen, ListenUDP: s.listenUDP, HTTP: gatewayhttp.Limits{LeaveTime: time.Millisecond},
	}
	if change != nil {
		change(&o)
	}
	var err error
	if s.server, err = NewServer(o); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	go func() {
		defer close(s.ended)
		s.server.Run(ctx)
	}()
	t.Cleanup(func() {
		stop()
		s.server.cut()
		<-s.ended
	})
	return s
}

// configure tells the gateway what it is.
func (s *scene) configure(change func(*mesh.Gateway)) {
	s.t.Helper()
	g := &mesh.Gateway{
		Namespace: "edge", Name: "west", Network: "west", ServiceAccount: "west",
		Listeners: []mesh.Listener{{Name: "mesh", Port: 15008, Bind: 15008, Protocol: mesh.ListenerHBONE}},
		Exports:   []mesh.ServiceKey{cartKey}, TrustDomains: []string{"cluster.local"},
	}
	if change != nil {
		change(g)
	}
	s.live.Apply(mesh.Delta{
		Gateways: map[mesh.GatewayKey]*mesh.Gateway{g.Key(): g},
		Services: map[mesh.ServiceKey]*mesh.Service{cartKey: cartService(nil)},
	})
	s.until("configuration is applied", func() bool {
		c := s.server.config.Load()
		return c != nil && c.told == s.live.Load().Gateway(g.Key())
	})
}

func cartService(change func(*mesh.Service)) *mesh.Service {
	svc := &mesh.Service{
		Namespace: "shop", Name: "cart", Hostname: hostname,
		Addresses: []mesh.NetworkAddress{{Network: "west", Addr: netip.MustParseAddr("10.96.0.7")}},
		Ports:     []mesh.Port{{Service: 80, Target: 8080}},
	}
	if change != nil {
		change(svc)
	}
	return svc
}

func podWorkload(n int, change func(*mesh.Workload)) *mesh.Workload {
	w := &mesh.Workload{
		UID: fmt.Sprintf("west//Pod/shop/cart-%d", n), Name: fmt.Sprintf("cart-%d", n), Namespace: "shop",
		Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(n)})}, Network: "west", Cluster: "west", Tunnel: mesh.TunnelHBONE,
		TrustDomain: "cluster.local", ServiceAccount: "cart", Capacity: 1,
		Services: map[mesh.ServiceKey][]mesh.Port{cartKey: {{Service: 80, Target: 8080}}},
	}
	if change != nil {
		change(w)
	}
	return w
}

// until polls for what other goroutines will do soon.
func (s *scene) until(what string, f func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("waited in vain until %s\n%s", what, s.logs.text())
		}
	}
}

// dial is the gateway's way to endpoints.
func (s *scene) dial(ctx context.Context, to netip.AddrPort) (relay.Conn, error) {
	s.mu.Lock()
	s.dials = append(s.dials, to)
	address, black := s.at[to], s.black[to]
	s.mu.Unlock()
	if black {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if address == "" {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	conn, err := dialTCP(ctx, netip.MustParseAddrPort(address))
	if err != nil {
		return nil, err
	}
	return &tapped{conn, s}, nil
}

// tapped keeps a copy of everything that passes.
type tapped struct {
	relay.Conn
	s *scene
}

func (c *tapped) keep(p []byte) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.s.wire.Len() < 1<<20 {
		c.s.wire.Write(p)
	}
}

func (c *tapped) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.keep(p[:n])
	return n, err
}

func (c *tapped) SetLinger(seconds int) error {
	return c.Conn.(interface{ SetLinger(int) error }).SetLinger(seconds)
}

func (c *tapped) Write(p []byte) (int, error) {
	c.keep(p)
	return c.Conn.Write(p)
}

func (s *scene) dialled() []netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]netip.AddrPort(nil), s.dials...)
}

func (s *scene) listen(bind uint16) (net.Listener, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failing[bind] {
		return nil, syscall.EADDRINUSE
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err == nil {
		s.binds[bind] = l.Addr().String()
	}
	return l, err
}

func (s *scene) address(bind uint16) string {
	s.until(fmt.Sprintf("port %d is bound", bind), func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.binds[bind] != ""
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.binds[bind]
}

// add tells of workloads, which need not exist.
func (s *scene) add(workloads ...*mesh.Workload) {
	d := mesh.Delta{Workloads: map[string]*mesh.Workload{}}
	for _, w := range workloads {
		d.Workloads[w.UID] = w
	}
	s.live.Apply(d)
}

// tcp makes pod n: it hands each connection to f, and closes it after.
func (s *scene) tcp(n int, f func(nc *net.TCPConn)) *mesh.Workload {
	s.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	var wait sync.WaitGroup
	s.t.Cleanup(func() {
		l.Close()
		wait.Wait()
	})
	wait.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			wait.Go(func() {
				defer nc.Close()
				defer context.AfterFunc(s.t.Context(), func() { nc.Close() })() // the test is over, and so is what f waits for
				f(nc.(*net.TCPConn))
			})
		}
	})
	w := podWorkload(n, nil)
	s.mu.Lock()
	s.at[netip.AddrPortFrom(w.Addresses[0], mesh.HBONEPort)] = l.Addr().String()
	s.mu.Unlock()
	return w
}

// pod makes pod n, with a real inner HBONE server that answers each stream with its name, the peer's identity and what was sent.
func (s *scene) pod(n int) *mesh.Workload {
	return s.tcp(n, func(nc *net.TCPConn) {
		secure := tls.Server(nc, s.source.Server(podID))
		if err := secure.HandshakeContext(s.t.Context()); err != nil {
			return
		}
		peer, err := mtls.Peer(secure.ConnectionState())
		if err != nil {
			return
		}
		conn := hbone.NewServer(secure, hbone.Settings{})
		defer conn.Close()
		for {
			r, err := conn.Accept(context.Background())
			if err != nil {
				return
			}
			stream, err := r.Accept(nil)
			if err != nil {
				return
			}
			sent, _ := io.ReadAll(stream)
			fmt.Fprintf(stream, "cart-%d %s %s %s %s", n, peer, r.Authority, r.Header.Get("x-forwarded-network"), sent)
			stream.CloseWrite()
		}
	})
}

// outer connects to the gateway.
func (s *scene) outer(bind uint16, as mesh.Identity) *hbone.Conn {
	s.t.Helper()
	conn, err := s.tryOuter(s.address(bind), as)
	if err != nil {
		s.t.Fatal(err)
	}
	return conn
}

func (s *scene) tryOuter(address string, as mesh.Identity) (*hbone.Conn, error) {
	source := s.source
	if as.TrustDomain != "cluster.local" {
		source = s.strange
	}
	nc, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	secure := tls.Client(nc, source.Client(as, []mesh.Identity{gatewayID}))
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	if err := secure.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, err
	}
	conn, err := hbone.NewClient(secure, hbone.Settings{})
	if err == nil {
		s.t.Cleanup(func() { conn.Close() })
	}
	return conn, err
}

// call goes all the way: an outer stream, TLS inside, an inner stream, a word and its answer.
func (s *scene) call(outer *hbone.Conn, authority, say string) (string, hbone.Header, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	stream, header, err := outer.Open(ctx, authority, nil)
	if err != nil {
		return "", nil, err
	}
	defer stream.Close()
	_ = stream.SetDeadline(time.Now().Add(patience))
	secure := tls.Client(stream, s.source.Client(clientID, []mesh.Identity{podID}))
	if err := secure.HandshakeContext(ctx); err != nil {
		return "", header, fmt.Errorf("inner handshake: %w", err)
	}
	inner, err := hbone.NewClient(secure, hbone.Settings{})
	if err != nil {
		return "", header, err
	}
	defer inner.Close()
	innerStream, _, err := inner.Open(ctx, authority, hbone.Header{{Name: "x-forwarded-network", Value: "east"}})
	if err != nil {
		return "", header, fmt.Errorf("inner CONNECT: %w", err)
	}
	if _, err := io.WriteString(innerStream, say); err != nil {
		return "", header, err
	}
	if err := innerStream.CloseWrite(); err != nil {
		return "", header, err
	}
	answer, err := io.ReadAll(innerStream)
	return string(answer), header, err
}

// refusal gives status and reason of a CONNECT that must fail.
func (s *scene) refusal(outer *hbone.Conn, authority string, h hbone.Header) (int, string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	stream, _, err := outer.Open(ctx, authority, h)
	if err == nil {
		stream.Close()
		return 200, ""
	}
	refused, ok := errors.AsType[*hbone.RefusedError](err)
	if !ok {
		s.t.Fatalf("CONNECT %s: %v, want a status", authority, err)
	}
	return refused.Status, refused.Header.Get(headerReason)
}
