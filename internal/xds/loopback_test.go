// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"maps"
	"math/big"
	"net"
	"net/netip"
	"reflect"
	"sync"
	"testing"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/go-logr/logr"
	"github.com/go-logr/logr/testr"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// patience is how long a test waits for what must happen; far more than it takes.
const patience = time.Minute

// quiet is how long a test watches that something does not happen.
const quiet = 50 * time.Millisecond

// identity is a server certificate for localhost, and the roots that prove it.
var identity = sync.OnceValues(func() (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
})

func serverTLS() *tls.Config {
	cert, _ := identity()
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
}

func testRoots() *x509.CertPool { _, roots := identity(); return roots }

// logs is a log that shows up in the output of a failed test.
func logs(t *testing.T) logr.Logger {
	return testr.NewWithInterface(&untilDone{t: t}, testr.Options{})
}

// untilDone drops what is logged after the test ended, which testing does not allow.
type untilDone struct{ t *testing.T }

func (u *untilDone) Helper() {}
func (u *untilDone) Log(args ...any) {
	if u.t.Context().Err() == nil {
		u.t.Log(args...)
	}
}

// authenticateAs accepts the token "good" as a caller.
func authenticateAs(c Caller) func(context.Context) (Caller, error) {
	return func(ctx context.Context) (Caller, error) {
		token, _, err := Credentials(ctx)
		if err != nil {
			return Caller{}, err
		}
		if token != "good" {
			return Caller{}, errors.New("token is not good")
		}
		return c, nil
	}
}

// running is a served Server.
type running struct {
	*Server
	addr string
	stop func()
}

// start serves s on addr ("" for any) until the test ends or stop is called.
func start(t *testing.T, addr string, s *Server) *running {
	t.Helper()
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, serverTLS(), s) }()
	stop := sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(patience):
			t.Error("Serve does not end")
		}
	})
	t.Cleanup(stop)
	return &running{Server: s, addr: l.Addr().String(), stop: stop}
}

// ready is a server that answers everybody with the token "good".
func ready(t *testing.T, o ServerOptions) *Server {
	if o.Authenticate == nil {
		o.Authenticate = authenticateAs(Caller{Namespace: "isthmus-system", ServiceAccount: "isthmus-nodeproxy", Node: "node-1"})
	}
	o.Log = logs(t)
	s := NewServer(o)
	s.SetReady()
	return s
}

// script is a client that says what it is told to, frame by frame.
type script struct {
	t      *testing.T
	stream discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	got    chan *discovery.DeltaDiscoveryResponse
	ended  chan error
}

// dialScript opens a stream with a token ("" for none).
func dialScript(t *testing.T, addr, token string) *script {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(testRoots(), "localhost")))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s := &script{t: t, stream: stream, got: make(chan *discovery.DeltaDiscoveryResponse, 16), ended: make(chan error, 1)}
	go func() {
		for {
			r, err := stream.Recv()
			if err != nil {
				s.ended <- err
				close(s.got)
				return
			}
			s.got <- r
		}
	}()
	t.Cleanup(func() {
		cancel()
		conn.Close()
		for range s.got { // until its reader ended
		}
	})
	return s
}

// dialDeaf opens a stream that nobody reads.
func dialDeaf(t *testing.T, addr, token string) (discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesClient, *grpc.ClientConn) {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(testRoots(), "localhost")))
	if err != nil {
		t.Fatal(err)
	}
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(
		metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token))
	if err != nil {
		t.Fatal(err)
	}
	return stream, conn
}

func (s *script) say(r *discovery.DeltaDiscoveryRequest) {
	s.t.Helper()
	if err := s.stream.Send(r); err != nil {
		s.t.Fatalf("send: %v", err)
	}
}

func (s *script) hear() *discovery.DeltaDiscoveryResponse {
	s.t.Helper()
	select {
	case r, ok := <-s.got:
		if !ok {
			s.t.Fatalf("stream ended: %v", <-s.ended)
		}
		return r
	case <-time.After(patience):
		s.t.Fatal("no response")
	}
	return nil
}

// ack answers a response.
func (s *script) ack(r *discovery.DeltaDiscoveryResponse) {
	s.t.Helper()
	s.say(&discovery.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()})
}

// silence checks that nothing comes.
func (s *script) silence() {
	s.t.Helper()
	select {
	case r, ok := <-s.got:
		if ok {
			s.t.Fatalf("unexpected response %s", describe(r))
		}
		s.t.Fatalf("stream ended: %v", <-s.ended)
	case <-time.After(quiet):
	}
}

func (s *script) end() error {
	s.t.Helper()
	select {
	case err := <-s.ended:
		return err
	case <-time.After(patience):
		s.t.Fatal("stream does not end")
	}
	return nil
}

// mirror is what an application knows from a client.
type mirror struct {
	mu       sync.Mutex
	snapshot mesh.Snapshot
	deltas   []mesh.Delta
	changed  chan struct{}
	refuse   func(mesh.Delta) error
}

func newMirror() *mirror {
	return &mirror{snapshot: mesh.NewSnapshot(), changed: make(chan struct{}, 1)}
}

func (m *mirror) apply(d mesh.Delta) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refuse != nil {
		if err := m.refuse(d); err != nil {
			return err
		}
	}
	m.snapshot.Apply(d)
	m.deltas = append(m.deltas, d)
	select {
	case m.changed <- struct{}{}:
	default:
	}
	return nil
}

func (m *mirror) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.deltas)
}

// await waits until the mirror holds exactly a snapshot.
func (m *mirror) await(t *testing.T, want mesh.Snapshot) {
	t.Helper()
	deadline := time.After(patience)
	for {
		m.mu.Lock()
		got := m.snapshot.Clone()
		m.mu.Unlock()
		if reflect.DeepEqual(got, want) {
			return
		}
		select {
		case <-m.changed:
		case <-deadline:
			t.Fatalf("mirror holds %v, want %v", slicesOf(got), slicesOf(want))
		}
	}
}

func slicesOf(s mesh.Snapshot) []any {
	var out []any
	for k := range maps.Keys(s.Workloads) {
		out = append(out, k)
	}
	for k := range maps.Keys(s.Services) {
		out = append(out, k)
	}
	for k := range maps.Keys(s.Policies) {
		out = append(out, k)
	}
	for k := range maps.Keys(s.Gateways) {
		out = append(out, k)
	}
	return out
}

// clientOptions are those of a node proxy.
func clientOptions(t *testing.T, addr string, m *mirror) ClientOptions {
	return ClientOptions{
		Log: logs(t), Target: addr, ServerName: "localhost", RootCAs: testRoots,
		Token:   func() (string, error) { return "good", nil },
		Cluster: "east",
		Node:    NodeInfo{ID: "ztunnel~10.0.0.1~p.n~n.svc.cluster.local", Metadata: map[string]string{"NODE_NAME": "node-1"}},
		Types:   []Type{Addresses(), Policies()},
		Apply:   m.apply,
	}
}

// run runs a client until the test ends or the returned function is called.
func run(t *testing.T, c *Client) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			t.Error("Run does not end")
		}
	})
	t.Cleanup(stop)
	return stop
}

func mustAddr(s string) netip.Addr { return netip.MustParseAddr(s) }
