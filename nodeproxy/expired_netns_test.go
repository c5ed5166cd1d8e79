// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nodeproxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/isthmus-mesh/isthmus/internal/ca"
	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
)

// briefly signs for a few seconds.
type briefly struct{ *ca.Signer }

func (s briefly) Issue(_ context.Context, id mesh.Identity, csrPEM []byte) ([]string, error) {
	return s.Sign(id, csrPEM, 10*time.Second) // the goodbye comes a second before the end
}

// TestTunnelEndsWithItsProof has a peer prove itself by a certificate that soon ends. Its tunnel is drained before that, and what runs in it goes on; if the peer does not heed
// that, it is let in to nothing new afterwards.
func TestTunnelEndsWithItsProof(t *testing.T) {
	w := newWorld(t)
	authority, err := ca.NewSigner(w.authority)
	must(t, err)
	certs := mtls.NewSource(briefly{authority}, mtls.SourceOptions{Log: logr.Discard()})
	t.Cleanup(certs.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	id := mesh.Identity{TrustDomain: trustDomain, Namespace: "demo", ServiceAccount: "client"}
	proof, err := certs.Certificate(ctx, id)
	must(t, err)
	secured := func() net.Conn {
		t.Helper()
		nc, err := w.plain.dial("10.77.0.3:15008")
		must(t, err)
		t.Cleanup(func() { nc.Close() })
		config := certs.Client(id, []mesh.Identity{{TrustDomain: trustDomain, Namespace: "demo", ServiceAccount: "server"}})
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &proof.TLS, nil }
		c := tls.Client(hbone.NewTransport(nc), config)
		must(t, c.HandshakeContext(ctx))
		return c
	}
	const target = "10.77.0.3:8080"

	nc := secured()
	_, err = io.WriteString(nc, http2.ClientPreface)
	must(t, err)
	stubborn := http2.NewFramer(nc, nc)
	stubborn.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	must(t, stubborn.WriteSettings())
	var block bytes.Buffer
	fields := hpack.NewEncoder(&block)
	ask := func(id uint32) (status string) {
		t.Helper()
		block.Reset()
		must(t, fields.WriteField(hpack.HeaderField{Name: ":method", Value: "CONNECT"}))
		must(t, fields.WriteField(hpack.HeaderField{Name: ":authority", Value: target}))
		must(t, stubborn.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true}))
		for { // past whatever it is told besides
			f, err := stubborn.ReadFrame()
			must(t, err)
			if answer, ok := f.(*http2.MetaHeadersFrame); ok && answer.StreamID == id {
				return answer.PseudoValue("status")
			}
		}
	}
	if got := ask(1); got != "200" {
		t.Fatalf("status %s while the certificate is good", got)
	}

	heeding, err := hbone.NewClient(secured(), hbone.DefaultSettings())
	must(t, err)
	t.Cleanup(func() { heeding.Close() })
	running, _, err := heeding.Open(ctx, target, nil)
	must(t, err)
	wait(t, "a goodbye before the certificate ends", heeding.Draining)
	if now := time.Now(); now.After(proof.NotAfter) {
		t.Errorf("the goodbye came %v after the end", now.Sub(proof.NotAfter))
	}
	wait(t, "the certificate's end", func() bool { return time.Now().After(proof.NotAfter) })
	if got := ask(3); got != "401" {
		t.Errorf("status %s after the certificate has ended, want 401", got)
	}
	w.east.log.find(t, `"reason":"CERT_EXPIRED"`, `"direction":"inbound"`, `"status":401`)

	_, err = running.Write([]byte("x"))
	must(t, err)
	must(t, running.CloseWrite())
	if got, err := io.ReadAll(running); err != nil || string(got) != "east-server 10.77.0.4 x" {
		t.Errorf("what ran before: %q, %v", got, err)
	}
}
