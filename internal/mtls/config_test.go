// SPDX-License-Identifier: Apache-2.0

package mtls

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// shake runs a handshake over a pipe and gives what each side thinks of it; the client's side includes a read, as in
// TLS 1.3 the server judges the client's certificate after the client is done.
func shake(t *testing.T, client, server *tls.Config) (cs tls.ConnectionState, clientErr, serverErr error) {
	t.Helper()
	a, b := net.Pipe()
	deadline := time.Now().Add(10 * time.Second)
	for _, c := range []net.Conn{a, b} {
		if err := c.SetDeadline(deadline); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	go func() {
		conn := tls.Server(b, server)
		err := conn.HandshakeContext(t.Context())
		if err == nil {
			_, err = conn.Write([]byte("x"))
		}
		cs = conn.ConnectionState()
		b.Close()
		done <- err
	}()
	conn := tls.Client(a, client)
	clientErr = conn.HandshakeContext(t.Context())
	if clientErr == nil {
		_, clientErr = conn.Read(make([]byte, 1))
	}
	a.Close()
	return cs, clientErr, <-done
}

// forge makes a client or server configuration with a leaf to order, that believes everybody.
func forge(t *testing.T, a *authority, uris []string, ttl time.Duration, change func(*x509.Certificate)) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var parsed []*url.URL
	for _, u := range uris {
		p, err := url.Parse(u)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, p)
	}
	cert := tls.Certificate{PrivateKey: key, Certificate: [][]byte{a.sign(key.Public(), parsed, ttl, change).Raw}}
	for up := a; up.up != nil; up = up.up {
		cert.Certificate = append(cert.Certificate, up.cert.Raw)
	}
	return &tls.Config{
		Certificates:       []tls.Certificate{cert},
		InsecureSkipVerify: true,
		ClientAuth:         tls.RequireAnyClientCert,
		NextProtos:         []string{"h2"},
	}
}

func TestPeersThatMustBeRefused(t *testing.T) {
	root, stranger := newAuthority(t, "root", nil), newAuthority(t, "stranger", nil)
	intermediate := newAuthority(t, "intermediate", root)
	foreign := newAuthority(t, "foreign", nil)
	s := NewSource(root, SourceOptions{})
	defer s.Close()
	if err := s.SetBundle("friend.example", []*x509.Certificate{foreign.cert}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Certificate(t.Context(), cart); err != nil {
		t.Fatal(err)
	}
	only := func(usage ...x509.ExtKeyUsage) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.ExtKeyUsage = usage }
	}
	const me = "spiffe://cluster.local/ns/shop/sa/till"
	for _, tc := range []struct {
		name   string
		ca     *authority
		uris   []string
		ttl    time.Duration
		change func(*x509.Certificate)
		tls    func(*tls.Config)
		server Reason // what a server thinks of this client; "" = welcome
		client Reason // what a client thinks of this server
	}{
		{name: "honest", ca: root, uris: []string{me}},
		{name: "through an intermediate", ca: intermediate, uris: []string{me}},
		{name: "missing intermediate", ca: intermediate, uris: []string{me}, tls: func(c *tls.Config) {
			c.Certificates[0].Certificate = c.Certificates[0].Certificate[:1]
		}, server: ReasonChain, client: ReasonChain},
		{name: "expired", ca: root, uris: []string{me}, ttl: -time.Second, server: ReasonExpired, client: ReasonExpired},
		{name: "not yet valid", ca: root, uris: []string{me}, change: func(c *x509.Certificate) {
			c.NotBefore = time.Now().Add(time.Hour)
		}, server: ReasonExpired, client: ReasonExpired},
		{name: "server only", ca: root, uris: []string{me}, change: only(x509.ExtKeyUsageServerAuth), server: ReasonUsage},
		{name: "client only", ca: root, uris: []string{me}, change: only(x509.ExtKeyUsageClientAuth), client: ReasonUsage},
		{name: "no usage", ca: root, uris: []string{me}, change: only(), server: ReasonUsage, client: ReasonUsage},
		{name: "any usage", ca: root, uris: []string{me}, change: only(x509.ExtKeyUsageAny), server: ReasonUsage, client: ReasonUsage},
		{name: "no SAN", ca: root, server: ReasonIdentity, client: ReasonIdentity},
		{name: "two SANs", ca: root, uris: []string{me, cart.String()}, server: ReasonIdentity, client: ReasonIdentity},
		{name: "two SANs, one not SPIFFE", ca: root, uris: []string{me, "https://example.com/"}, server: ReasonIdentity, client: ReasonIdentity},
		{name: "SAN not of our form", ca: root, uris: []string{"spiffe://cluster.local/till"}, server: ReasonIdentity, client: ReasonIdentity},
		{name: "DNS name beside", ca: root, uris: []string{me}, change: func(c *x509.Certificate) { c.DNSNames = []string{"x.example"} }},
		{name: "foreign trust domain", ca: root, uris: []string{"spiffe://else.example/ns/shop/sa/till"}, server: ReasonTrustDomain, client: ReasonTrustDomain},
		{name: "friend's domain by our root", ca: root, uris: []string{"spiffe://friend.example/ns/shop/sa/till"}, server: ReasonChain, client: ReasonChain},
		{name: "our domain by the friend's root", ca: foreign, uris: []string{me}, server: ReasonChain, client: ReasonChain},
		{name: "friend", ca: foreign, uris: []string{"spiffe://friend.example/ns/shop/sa/till"}},
		{name: "wrong root", ca: stranger, uris: []string{me}, server: ReasonChain, client: ReasonChain},
		{name: "a CA as a peer", ca: root, uris: []string{me}, change: func(c *x509.Certificate) {
			c.IsCA, c.BasicConstraintsValid = true, true
		}, server: ReasonChain, client: ReasonChain},
		{name: "no ALPN", ca: root, uris: []string{me}, tls: func(c *tls.Config) { c.NextProtos = nil }, server: ReasonProtocol, client: ReasonProtocol},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ttl := tc.ttl
			if ttl == 0 {
				ttl = 2 * time.Hour
			}
			peer := forge(t, tc.ca, tc.uris, ttl, tc.change)
			if tc.tls != nil {
				tc.tls(peer)
			}
			cs, _, err := shake(t, peer, s.Server(cart))
			check(t, "server", err, tc.server)
			if tc.server == "" {
				if id, err := Peer(cs); err != nil || id.String() != tc.uris[0] {
					t.Errorf("server sees %v, %v", id, err)
				}
			}
			want := mesh.Identity{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "till"}
			if tc.name == "friend" {
				want.TrustDomain = "friend.example"
			}
			_, err, _ = shake(t, s.Client(cart, []mesh.Identity{cart, want}), peer)
			check(t, "client", err, tc.client)
		})
	}
}

func check(t *testing.T, side string, err error, want Reason) {
	t.Helper()
	refused, ok := errors.AsType[*VerifyError](err)
	switch {
	case want == "" && err != nil:
		t.Errorf("%s: %v, want none", side, err)
	case want != "" && (!ok || refused.Reason != want):
		t.Errorf("%s: %v, want reason %q", side, err, want)
	}
}

func TestClientDemands(t *testing.T) {
	ca := newAuthority(t, "root", nil)
	s := NewSource(ca, SourceOptions{})
	defer s.Close()
	for _, tc := range []struct {
		name string
		want []mesh.Identity
		err  Reason
	}{
		{"the right one", []mesh.Identity{till}, ""},
		{"one of two", []mesh.Identity{cart, till}, ""},
		{"another", []mesh.Identity{cart}, ReasonUnwanted},
		{"nothing", nil, ReasonNothingWanted},
		{"empty", []mesh.Identity{}, ReasonNothingWanted},
		{"nobody", []mesh.Identity{{}}, ReasonUnwanted},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err, _ := shake(t, s.Client(cart, tc.want), s.Server(till))
			check(t, "client", err, tc.err)
		})
	}
}

func TestWireOfAHandshake(t *testing.T) {
	ca := newAuthority(t, "root", nil)
	s := NewSource(ca, SourceOptions{})
	defer s.Close()
	var hello *tls.ClientHelloInfo
	server := s.Server(till)
	server.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		hello = h
		return nil, nil
	}
	cache := tls.NewLRUClientSessionCache(8)
	for range 2 {
		client := s.Client(cart, []mesh.Identity{till})
		if !client.DynamicRecordSizingDisabled || !server.DynamicRecordSizingDisabled {
			t.Error("records begin small")
		}
		if client.ClientSessionCache != nil {
			t.Error("client keeps sessions")
		}
		client.ClientSessionCache = cache // even a client that would resume cannot
		client.ServerName = "x"           // the cache's key
		if cs, err, _ := shake(t, client, server); err != nil || cs.DidResume {
			t.Fatalf("error %v, resumed %v", err, cs.DidResume)
		}
	}
	cs, err, _ := shake(t, s.Client(cart, []mesh.Identity{till}), server)
	if err != nil {
		t.Fatal(err)
	}
	if cs.Version != tls.VersionTLS13 || cs.NegotiatedProtocol != "h2" || cs.CurveID != tls.X25519 {
		t.Errorf("version %x, ALPN %q, group %v", cs.Version, cs.NegotiatedProtocol, cs.CurveID)
	}
	if hello.ServerName != "" {
		t.Errorf("client sent SNI %q", hello.ServerName)
	}
	if peer, err := Peer(cs); err != nil || peer != cart {
		t.Errorf("server sees %v, %v", peer, err)
	}
	if _, err := Peer(tls.ConnectionState{}); err == nil {
		t.Error("a connection without certificates has a peer")
	}

	old := forge(t, ca, []string{cart.String()}, time.Hour, nil)
	old.MaxVersion = tls.VersionTLS12
	if _, _, err := shake(t, old, s.Server(till)); err == nil {
		t.Error("server speaks TLS 1.2")
	}
	if _, err, _ := shake(t, s.Client(cart, []mesh.Identity{till}), old); err == nil {
		t.Error("client speaks TLS 1.2")
	}
	other := forge(t, ca, []string{cart.String()}, time.Hour, nil)
	other.NextProtos = []string{"http/1.1"}
	if _, _, err := shake(t, other, s.Server(till)); err == nil {
		t.Error("server speaks HTTP/1.1")
	}
	bare := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}
	if _, _, err := shake(t, bare, s.Server(till)); err == nil {
		t.Error("server lets a client without certificate in")
	}
}

func TestHandshakeWaitsForTheCertificate(t *testing.T) {
	ca := newAuthority(t, "root", nil)
	gate := make(chan struct{})
	ca.set(func(a *authority) { a.block = gate })
	s := NewSource(ca, SourceOptions{})
	defer s.Close()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	go func() { _ = tls.Client(a, s.Client(cart, []mesh.Identity{till})).HandshakeContext(t.Context()) }()
	if err := tls.Server(b, s.Server(till)).HandshakeContext(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("issuer does not answer: %v", err)
	}
	close(gate)
	if _, err, _ := shake(t, s.Client(cart, []mesh.Identity{till}), s.Server(till)); err != nil {
		t.Errorf("issuer answered: %v", err)
	}
}

// TestFirstHandshakeOfASource has two parties that never met and have fetched nothing yet.
func TestFirstHandshakeOfASource(t *testing.T) {
	ca := newAuthority(t, "root", nil)
	a, b := NewSource(ca, SourceOptions{}), NewSource(ca, SourceOptions{})
	defer a.Close()
	defer b.Close()
	if _, clientErr, serverErr := shake(t, a.Client(cart, []mesh.Identity{till}), b.Server(till)); clientErr != nil || serverErr != nil {
		t.Errorf("client %v, server %v", clientErr, serverErr)
	}
}

// TestRootRotation walks the two steps: bundles first, issuers second. Configurations made before keep working.
func TestRootRotation(t *testing.T) {
	before, after := newAuthority(t, "before", nil), newAuthority(t, "after", nil)
	issuer, bundle := before, before.pem()
	mine := NewSource(liar(func(id mesh.Identity, csr []byte) ([]string, error) {
		chain, err := issuer.Issue(t.Context(), id, csr)
		if err != nil {
			return nil, err
		}
		return []string{chain[0], bundle}, nil
	}), SourceOptions{})
	defer mine.Close()
	server := mine.Server(till)
	renew := func() {
		t.Helper()
		for _, id := range []mesh.Identity{cart, till} {
			mine.Drop(id)
			if _, err := mine.Certificate(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
	}
	renew()
	oldPeer := forge(t, before, []string{cart.String()}, time.Hour, nil)
	newPeer := forge(t, after, []string{cart.String()}, time.Hour, nil)
	expect := func(step string, oldReason, newReason Reason) {
		t.Helper()
		_, _, err := shake(t, oldPeer, server)
		check(t, step+": old peer", err, oldReason)
		_, _, err = shake(t, newPeer, server)
		check(t, step+": new peer", err, newReason)
	}
	expect("before", "", ReasonChain)
	bundle = before.pem() + after.pem()
	renew()
	expect("both bundles", "", "")
	issuer = after
	renew()
	expect("new issuer", "", "")
	bundle = after.pem()
	renew()
	expect("after", ReasonChain, "")
	if err := mine.SetBundle("cluster.local", nil, nil); err != nil {
		t.Fatal(err)
	}
	expect("trust withdrawn", ReasonTrustDomain, ReasonTrustDomain)
	if err := mine.SetBundle("not a domain", nil, nil); err == nil {
		t.Error("a bundle for no domain was taken")
	}
}

func BenchmarkHandshake(b *testing.B) {
	ca := newAuthority(b, "root", nil)
	s := NewSource(ca, SourceOptions{})
	defer s.Close()
	client, server := s.Client(cart, []mesh.Identity{till}), s.Server(till)
	for b.Loop() {
		x, y := net.Pipe()
		done := make(chan error, 1)
		go func() { done <- tls.Server(y, server).HandshakeContext(b.Context()) }()
		if err := tls.Client(x, client).HandshakeContext(b.Context()); err != nil {
			b.Fatal(err)
		}
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		x.Close()
		y.Close()
	}
}
