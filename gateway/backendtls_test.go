// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"encoding/pem"
	"io"
	"net/http/httptest"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// TestTLSIsMadeAnew: what ends here goes on in TLS to a backend that wants it, which is taken for what it is by its certificate alone; and each side ends for itself.
func TestTLSIsMadeAnew(t *testing.T) {
	s := newScene(t, nil)
	own := httptest.NewTLSServer(nil) // its certificate, for example.com, is that of all such pods
	defer own.Close()
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: own.Certificate().Raw}))
	other := certificateFor(t, "example.com")
	mixed := func(b mesh.BackendTLS) {
		s.configure(func(g *mesh.Gateway) {
			b.Service, b.Port = cartKey, 80
			g.BackendTLS = []mesh.BackendTLS{b}
			g.Listeners = append(g.Listeners,
				mesh.Listener{Name: "past", Port: 6443, Bind: 6443, Protocol: mesh.ListenerTLS, Hostname: "there.example.com", TLSRoutes: []*mesh.TLSRoute{cartRoute("there.example.com")}},
				mesh.Listener{Name: "ends", Port: 6443, Bind: 6443, Protocol: mesh.ListenerTLSTerminate, Hostname: "*.example.com", Certificates: []mesh.Certificate{other}, TLSRoutes: []*mesh.TLSRoute{cartRoute("*.example.com")}})
		})
	}
	mixed(mesh.BackendTLS{ServerName: "example.com", CAs: ca})
	s.add(s.tlsPod(1))
	conn, said, err := s.dialTLS("here.example.com")
	if err != nil || said != "pod 1 for example.com" {
		t.Fatalf("%q, %v", said, err)
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
	if _, said, err := s.dialTLS("there.example.com"); err != nil || said != "pod 1 for there.example.com" {
		t.Errorf("what is passed on: %q, %v", said, err)
	}
	refused := func() float64 { return s.counted("isthmus_gateway_streams_refused_total", ReasonBackendTLS) }
	for i, wrong := range []mesh.BackendTLS{{ServerName: "elsewhere.org", CAs: ca}, {ServerName: "example.com", CAs: other.Chain}, {Problem: "there is no ConfigMap"}} {
		mixed(wrong)
		if _, said, err := s.dialTLS("here.example.com"); err == nil {
			t.Errorf("%+v: it said %q", wrong, said)
		}
		s.until("it is counted", func() bool { return refused() == float64(i+1) })
	}
	// Nothing is wrong with the pod for who expects something else of it.
	mixed(mesh.BackendTLS{ServerName: "example.com", CAs: ca})
	if _, said, err := s.dialTLS("here.example.com"); err != nil || said != "pod 1 for example.com" {
		t.Errorf("%q, %v", said, err)
	}
	families, err := s.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if n := f.GetMetric()[0].GetCounter().GetValue(); f.GetName() == "isthmus_gateway_endpoint_ejections_total" && n != 2 || f.GetName() == "isthmus_gateway_endpoint_tls_failures_total" && n != 2 {
			t.Errorf("%s is %v", f.GetName(), n)
		}
	}
}
