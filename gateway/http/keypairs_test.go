// SPDX-License-Identifier: Apache-2.0

package http

import (
	"fmt"
	"testing"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func secure(hostname string, certificates ...mesh.Certificate) mesh.Listener {
	return mesh.Listener{Name: hostname, Hostname: hostname, Port: 443, Protocol: mesh.ListenerHTTPS, Certificates: certificates}
}

// Another configuration parses only the certificates that are new, whatever listeners they are for, and says again which cannot be used.
func TestConfigureParsesOnlyNewCertificates(t *testing.T) {
	logs := &lines{}
	s := NewServer(Options{Log: logr.FromSlogHandler(newLog(logs)), Metrics: prometheus.NewRegistry()})
	old, next, odd := certificate(t, "old"), certificate(t, "next"), mesh.Certificate{Chain: "x", Key: "y"}
	p := s.NewPort([]mesh.Listener{secure("a.example.com", old), secure("b.example.com", old), secure("c.example.com", odd)})
	// parsed is the memory that holds the certificate that a listener proves itself by.
	parsed := func(host string) *byte {
		t.Helper()
		config, _ := p.current.Load().tls.best(host)
		if config == nil || len(config.Certificates) != 1 {
			t.Fatalf("%s has no certificate", host)
		}
		return &config.Certificates[0].Certificate[0][0]
	}
	was := parsed("a.example.com")
	if parsed("b.example.com") != was {
		t.Error("two listeners with one certificate have it parsed twice")
	}
	if n := logs.count("certificates cannot be used"); n != 1 {
		t.Errorf("%d lines about the certificate that cannot be used", n)
	}
	copied := mesh.Certificate{Chain: string([]byte(old.Chain)), Key: string([]byte(old.Key))} // as it comes by the wire
	p.Configure([]mesh.Listener{secure("a.example.com", next), secure("d.example.com", copied), secure("c.example.com", odd)})
	if parsed("d.example.com") != was {
		t.Error("a certificate that was there before is parsed anew")
	}
	if parsed("a.example.com") == was {
		t.Error("the listener still has the certificate from before")
	}
	if n := logs.count("certificates cannot be used"); n != 2 {
		t.Errorf("%d lines about the certificate that cannot be used", n)
	}
	p.Configure([]mesh.Listener{secure("a.example.com", next)})
	p.Configure([]mesh.Listener{secure("a.example.com", old)})
	if parsed("a.example.com") == was {
		t.Error("a certificate that had gone was kept")
	}
}

// A change of one of 64 listeners' routes, each listener with a certificate of its own.
func BenchmarkConfigure64Certificates(b *testing.B) {
	s := NewServer(Options{Log: logr.Discard(), Metrics: prometheus.NewRegistry()})
	var listeners []mesh.Listener
	for i := range 64 {
		host := fmt.Sprintf("host-%d.example.com", i)
		listeners = append(listeners, secure(host, certificate(b, host)))
	}
	p := s.NewPort(listeners)
	b.ReportAllocs()
	for b.Loop() {
		p.Configure(listeners)
	}
}
