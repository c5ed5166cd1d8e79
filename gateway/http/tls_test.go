// SPDX-License-Identifier: Apache-2.0

package http

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// certificate is one that proves itself, for names.
func certificate(t testing.TB, names ...string) mesh.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: names, NotAfter: time.Now().Add(time.Hour)}
	chain, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return mesh.Certificate{Chain: text("CERTIFICATE", chain), Key: text("PRIVATE KEY", private)}
}

// Listeners share a port by the name that TLS was made for; a request that belongs to another one is sent back.
func TestHTTPS(t *testing.T) {
	secure := func(name, hostname string, certificates ...mesh.Certificate) mesh.Listener {
		l := listener(name, hostname, route(name, nil, with(rule(name, prefix("/")), func(r *mesh.HTTPRule) { r.Backends = []mesh.HTTPBackend{to("a")} })))
		l.Port, l.Protocol, l.Certificates = 443, mesh.ListenerHTTPS, certificates
		return l
	}
	one, wild, odd := certificate(t, "one.example.com"), certificate(t, "*.example.com"), mesh.Certificate{Chain: "x", Key: "y"}
	s := newScene(t, Limits{}, secure("one", "one.example.com", one), secure("wild", "*.example.com", wild), secure("bare", "bare.example.com"), secure("odd", "odd.example.com", odd))
	s.backend("a", mesh.AppUnknown, says("a"))
	ask := func(name, host string, h2 bool) (string, error) {
		protocols := &http.Protocols{}
		protocols.SetHTTP1(!h2)
		protocols.SetHTTP2(h2)
		var leaf *x509.Certificate
		client := &http.Client{Timeout: patience, Transport: &http.Transport{
			Protocols: protocols, DisableKeepAlives: true,
			DialTLSContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				next := []string{"http/1.1"}
				if h2 {
					next = []string{"h2"}
				}
				d := &tls.Dialer{Config: &tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: next}}
				conn, err := d.DialContext(ctx, network, s.address)
				if err == nil {
					leaf = conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
				}
				return conn, err
			},
		}}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+host+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(r)
		if err != nil {
			return "", err
		}
		defer response.Body.Close()
		return fmt.Sprintf("%d %s HTTP/%d", response.StatusCode, leaf.DNSNames[0], response.ProtoMajor), nil
	}
	for _, h2 := range []bool{false, true} {
		version := map[bool]string{false: "HTTP/1", true: "HTTP/2"}[h2]
		for _, tc := range []struct{ name, host, want string }{
			{"one.example.com", "one.example.com", "200 one.example.com "},
			{"two.example.com", "two.example.com", "200 *.example.com "},
			{"two.example.com", "three.example.com", "200 *.example.com "},
			{"two.example.com", "one.example.com", "421 *.example.com "},
			{"one.example.com", "two.example.com", "421 one.example.com "},
			{"one.example.com", "elsewhere.org", "404 one.example.com "},
		} {
			if got, err := ask(tc.name, tc.host, h2); err != nil || got != tc.want+version {
				t.Errorf("TLS for %s, host %s: %q, %v, want %q", tc.name, tc.host, got, err, tc.want+version)
			}
		}
	}
	// No wider listener stands in for one that cannot prove itself.
	for _, name := range []string{"bare.example.com", "odd.example.com", "elsewhere.org", ""} {
		if got, err := ask(name, name+".", false); err == nil {
			t.Errorf("TLS for %q was made: %s", name, got)
		}
	}
}
