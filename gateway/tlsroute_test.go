// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// certificateFor is one for a name, signed by itself.
func certificateFor(t *testing.T, name string) mesh.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{name}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	text := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return mesh.Certificate{Chain: text("CERTIFICATE", der), Key: text("PRIVATE KEY", private)}
}

// mixed is a gateway with one port for TLS, 6443: connections for there.example.com are passed on, those for other names of
// example.com end here.
func (s *scene) mixed(certificates ...mesh.Certificate) {
	s.t.Helper()
	route := func(names ...string) []*mesh.TLSRoute { return []*mesh.TLSRoute{cartRoute(names...)} }
	s.configure(func(g *mesh.Gateway) {
		g.Listeners = append(g.Listeners,
			mesh.Listener{Name: "past", Port: 6443, Bind: 6443, Protocol: mesh.ListenerTLS, Hostname: "there.example.com", TLSRoutes: route("there.example.com")},
			mesh.Listener{Name: "ends", Port: 6443, Bind: 6443, Protocol: mesh.ListenerTLSTerminate, Hostname: "*.example.com", Certificates: certificates, TLSRoutes: route("*.example.com")})
	})
}

// TestTLSEndsHere: what is inside is passed on, both ways, with each side ending for itself.
func TestTLSEndsHere(t *testing.T) {
	s := newScene(t, nil)
	s.mixed(certificateFor(t, "here.example.com"))
	s.add(s.plainPod(1))
	conn, said, err := s.dialTLS("here.example.com")
	if err != nil || said != "pod 1" {
		t.Fatalf("%q, %v", said, err)
	}
	if got := conn.ConnectionState().PeerCertificates[0].DNSNames; len(got) != 1 || got[0] != "here.example.com" {
		t.Errorf("it is proved to be %v", got)
	}
	if _, err := io.WriteString(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if echoed, err := io.ReadAll(conn); string(echoed) != "hello" || err != nil {
		t.Errorf("%q came back, %v", echoed, err)
	}
	conn.Close()
	s.until("it is logged", func() bool { return len(s.logs.access()) == 1 })
	if line := s.logs.access()[0]; line["tunnel"] != "tls-ended" || line["service"] != "here.example.com" || line["workload"] != "shop/cart-1" || line["reason"] != "-" {
		t.Errorf("access log: %v", line)
	}
	s.nothingLeft()
}

// TestTLSIsMixed: of listeners that share a port, the one whose hostname fits takes the connection.
func TestTLSIsMixed(t *testing.T) {
	s := newScene(t, nil)
	s.mixed(certificateFor(t, "here.example.com"))
	s.add(s.tlsPod(1))
	if _, said, err := s.dialTLS("there.example.com"); err != nil || said != "pod 1 for there.example.com" {
		t.Errorf("passed on: %q, %v", said, err)
	}
	// The pod wants TLS of its own: what ends here reaches it in plaintext, and it hangs up.
	conn, said, err := s.dialTLS("here.example.com")
	if err == nil {
		t.Errorf("%v said %q", conn.ConnectionState(), said)
	}
	if _, _, err := s.dialTLS("example.org"); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a name of no listener: %v", err)
	}
}

// TestTLSThatDoesNotEnd: without a certificate, with a client that goes no further, or one that does not speak as it began.
func TestTLSThatDoesNotEnd(t *testing.T) {
	s := newScene(t, func(o *Options) { o.Limits.HandshakeTimeout = 300 * time.Millisecond })
	s.add(s.plainPod(1))
	refused := func() float64 { return s.counted("isthmus_gateway_streams_refused_total", ReasonHandshake) }
	s.mixed(mesh.Certificate{Chain: "odd", Key: "odd"})
	if _, _, err := s.dialTLS("here.example.com"); err == nil {
		t.Error("a handshake without a certificate")
	}
	s.until("it is counted", func() bool { return refused() == 1 })
	s.mixed(certificateFor(t, "here.example.com"))
	nc, err := net.Dial("tcp", s.address(6443))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(patience))
	stuck := tls.Client(stuckConn{nc}, &tls.Config{ServerName: "here.example.com", InsecureSkipVerify: true})
	if err := stuck.Handshake(); err == nil {
		t.Error("a handshake of which the client sends the first part only")
	}
	s.until("it is counted", func() bool { return refused() == 2 })
	if n := len(s.dialled()); n > 0 {
		t.Errorf("%d endpoints were dialled", n)
	}
	s.nothingLeft()
}

// stuckConn sends the ClientHello, and waits for an end instead of an answer.
type stuckConn struct{ net.Conn }

func (c stuckConn) Read([]byte) (int, error) {
	_, err := io.Copy(io.Discard, c.Conn)
	if err == nil {
		err = io.EOF
	}
	return 0, err
}
