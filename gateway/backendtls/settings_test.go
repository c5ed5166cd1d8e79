// SPDX-License-Identifier: Apache-2.0

package backendtls

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	a.cert, a.key = a.make(template, nil)
	a.pem = pemOf("CERTIFICATE", a.cert.Raw)
	return a
}

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func (a *authority) make(template *x509.Certificate, by *authority) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

// sign makes a certificate for names, of which those with a scheme are URIs.
func (a *authority) sign(names ...string) mesh.Certificate {
	a.t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour)}
	for _, n := range names {
		if u, err := url.Parse(n); err == nil && u.Scheme != "" {
			template.URIs = append(template.URIs, u)
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	cert, key := a.make(template, a)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return mesh.Certificate{Chain: pemOf("CERTIFICATE", cert.Raw), Key: pemOf("PRIVATE KEY", der)}
}

// wire is a connection, which unlike net.Pipe takes what both sides write at once.
func wire(t *testing.T) (near, far net.Conn) {
	t.Helper()
	socket, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	if near, err = new(net.Dialer).DialContext(t.Context(), "tcp", socket.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = socket.Accept(); err != nil {
		t.Fatal(err)
	}
	return near, far
}

// handshake speaks TLS by settings with an endpoint that proves by a certificate, and gives what each side thinks of it.
func handshake(t *testing.T, s *Settings, proves mesh.Certificate, protocol string, agrees ...string) (server tls.ConnectionState, serverErr, err error) {
	t.Helper()
	pair, err := tls.X509KeyPair([]byte(proves.Chain), []byte(proves.Key))
	if err != nil {
		t.Fatal(err)
	}
	near, far := wire(t)
	defer far.Close()
	done := make(chan struct{})
	secure := tls.Server(far, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert, NextProtos: agrees})
	go func() {
		defer close(done)
		serverErr = secure.HandshakeContext(context.Background())
		if serverErr != nil {
			far.Close()
		}
	}()
	conn, err := s.Client(t.Context(), near, protocol, 20*time.Second)
	if err == nil {
		defer conn.Close()
	}
	<-done
	return secure.ConnectionState(), serverErr, err
}

func TestWhomItTakesForABackend(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	const name, spiffe = "cart.example.com", "spiffe://example.com/ns/shop/sa/cart"
	dns := func(n string) mesh.SubjectAltName { return mesh.SubjectAltName{Value: n} }
	uri := func(u string) mesh.SubjectAltName { return mesh.SubjectAltName{URI: true, Value: u} }
	for _, tc := range []struct {
		is    string
		shows mesh.Certificate
		sans  []mesh.SubjectAltName
		wrong string // what the error says; empty: none
	}{
		{"the name", ca.sign(name), nil, ""},
		{"a wildcard", ca.sign("*.example.com"), nil, ""},
		{"another name", ca.sign("other.example.com"), nil, "valid for other.example.com"},
		{"another CA", other.sign(name), nil, "unknown authority"},
		{"no name", ca.sign(spiffe), nil, "not valid for any names"},
		{"a SAN", ca.sign("a.example.com", "b.example.com"), []mesh.SubjectAltName{dns("b.example.com")}, ""},
		{"one of several SANs", ca.sign(spiffe), []mesh.SubjectAltName{dns("b.example.com"), uri(spiffe)}, ""},
		{"a SAN by a wildcard of the certificate", ca.sign("*.example.com"), []mesh.SubjectAltName{dns("b.example.com")}, ""},
		{"a SAN with a wildcard", ca.sign("b.example.com"), []mesh.SubjectAltName{dns("*.example.com")}, ""},
		{"the same wildcard", ca.sign("*.example.com"), []mesh.SubjectAltName{dns("*.example.com")}, ""},
		{"two labels for a wildcard", ca.sign("a.b.example.com"), []mesh.SubjectAltName{dns("*.example.com")}, "none of the subjectAltNames"},
		{"the name that was asked for, which is no SAN", ca.sign(name), []mesh.SubjectAltName{dns("b.example.com")}, "none of the subjectAltNames of the policy, but \"cart.example.com\""},
		{"another URI", ca.sign(spiffe + "2"), []mesh.SubjectAltName{uri(spiffe)}, "none of the subjectAltNames"},
		{"a URI in other letters", ca.sign("spiffe://EXAMPLE.com/ns/shop/sa/cart"), []mesh.SubjectAltName{uri(spiffe)}, ""},
		{"a path in other letters", ca.sign("spiffe://example.com/ns/shop/sa/CART"), []mesh.SubjectAltName{uri(spiffe)}, "none of the subjectAltNames"},
		{"a hostname for a URI", ca.sign("example.com"), []mesh.SubjectAltName{uri("https://example.com")}, "none of the subjectAltNames"},
		{"a SAN by another CA", other.sign(spiffe), []mesh.SubjectAltName{uri(spiffe)}, "unknown authority"},
	} {
		s := newSettings(&mesh.BackendTLS{Port: 443, ServerName: name, CAs: ca.pem, SANs: tc.sans}, nil)
		if err := s.Problem(); err != nil {
			t.Fatal(err)
		}
		state, _, err := handshake(t, s, tc.shows, "")
		switch {
		case tc.wrong == "" && err != nil:
			t.Errorf("%s: %v", tc.is, err)
		case tc.wrong != "" && (!errors.Is(err, ErrHandshake) || !strings.Contains(err.Error(), tc.wrong)):
			t.Errorf("%s: %v, want it to say %q", tc.is, err, tc.wrong)
		case state.ServerName != name:
			t.Errorf("%s: it was asked for %q", tc.is, state.ServerName)
		}
	}
}

func TestWhatItProves(t *testing.T) {
	ca := newAuthority(t)
	proof := newAuthority(t).sign("gateway.example.com")
	from := &mesh.BackendTLS{Port: 443, ServerName: "cart.example.com", CAs: ca.pem}
	for _, shown := range []*mesh.Certificate{nil, &proof} {
		state, serverErr, err := handshake(t, newSettings(from, shown), ca.sign("cart.example.com"), HTTP1, HTTP1)
		if err != nil || serverErr != nil {
			t.Fatal(err, serverErr)
		}
		if shown == nil && len(state.PeerCertificates) > 0 || shown != nil && (len(state.PeerCertificates) != 1 || pemOf("CERTIFICATE", state.PeerCertificates[0].Raw) != proof.Chain) {
			t.Errorf("with %v it shows %v", shown, state.PeerCertificates)
		}
	}
}

func TestHTTP2MustBeAgreedTo(t *testing.T) {
	ca := newAuthority(t)
	s := newSettings(&mesh.BackendTLS{Port: 443, ServerName: "cart.example.com", CAs: ca.pem}, nil)
	shows := ca.sign("cart.example.com")
	for _, tc := range []struct {
		protocol string
		agrees   []string
		fails    bool
	}{{HTTP2, []string{HTTP2, HTTP1}, false}, {HTTP2, nil, true}, {HTTP2, []string{HTTP1}, true}, {HTTP1, nil, false}, {HTTP1, []string{HTTP2, HTTP1}, false}} {
		if _, _, err := handshake(t, s, shows, tc.protocol, tc.agrees...); (err != nil) != tc.fails {
			t.Errorf("%s with one that agrees to %v: %v", tc.protocol, tc.agrees, err)
		}
	}
}

func TestProblems(t *testing.T) {
	ca := newAuthority(t)
	for says, s := range map[string]*Settings{
		"no such ConfigMap": newSettings(&mesh.BackendTLS{Problem: "no such ConfigMap"}, nil),
		"no CA certificate": newSettings(&mesh.BackendTLS{ServerName: "x", CAs: "odd"}, nil),
		"own certificate":   newSettings(&mesh.BackendTLS{ServerName: "x", CAs: ca.pem}, &mesh.Certificate{Chain: "x", Key: "y"}),
	} {
		if s.Problem() == nil || !strings.Contains(s.Problem().Error(), says) {
			t.Errorf("%v, want it to say %q", s.Problem(), says)
		}
		near, far := wire(t)
		defer far.Close()
		if _, err := s.Client(t.Context(), near, "", time.Minute); !errors.Is(err, ErrHandshake) {
			t.Errorf("%s: %v", says, err)
		}
		if _, err := near.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: the connection is open", says)
		}
	}
}

// What says the same is the same, so that its connections stay; all else is another one.
func TestNext(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	cart, stock := mesh.ServiceKey{Namespace: "shop", Hostname: "cart"}, mesh.ServiceKey{Namespace: "shop", Hostname: "stock"}
	one := func(service mesh.ServiceKey, cas string) mesh.BackendTLS {
		return mesh.BackendTLS{Service: service, Port: 443, ServerName: "x", CAs: cas, SANs: []mesh.SubjectAltName{{Value: "a"}}}
	}
	var none *Table
	if none.For(cart, 443) != nil {
		t.Error("an empty table has something")
	}
	first, gone, err := none.Next([]mesh.BackendTLS{one(cart, ca.pem), one(stock, ca.pem)}, nil)
	if err != nil || len(gone) != 0 || first.For(cart, 443) == nil || first.For(cart, 80) != nil {
		t.Fatal(err, gone)
	}
	second, gone, err := first.Next([]mesh.BackendTLS{one(cart, ca.pem), one(stock, other.pem)}, nil)
	if err != nil || second.For(cart, 443) != first.For(cart, 443) || second.For(stock, 443) == first.For(stock, 443) {
		t.Error("the wrong ones were made anew", err)
	}
	if was := first.For(stock, 443); len(gone) != 1 || gone[0] != was || !was.Retired() || second.For(stock, 443).Retired() || second.For(cart, 443).Retired() {
		t.Errorf("gone: %v", gone)
	}
	proof := ca.sign("gateway")
	third, gone, err := second.Next([]mesh.BackendTLS{one(cart, ca.pem)}, &proof)
	if err != nil || third.For(cart, 443) == second.For(cart, 443) || len(gone) != 2 {
		t.Errorf("with another proof: %v, %v", gone, err)
	}
	again := proof
	if fourth, gone, _ := third.Next([]mesh.BackendTLS{one(cart, ca.pem)}, &again); fourth.For(cart, 443) != third.For(cart, 443) || len(gone) != 0 {
		t.Error("the same proof, and other settings")
	}
}
