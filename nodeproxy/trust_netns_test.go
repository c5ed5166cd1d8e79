// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nodeproxy_test

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/isthmus-mesh/isthmus/internal/ca"
	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
)

// TestTrustThatIsTakenAway: with the roots of another trust domain goes what its identities have open, and its tunnels carry nothing new.
func TestTrustThatIsTakenAway(t *testing.T) {
	w := newWorld(t)
	files, err := ca.SelfSigned("friend.example")
	must(t, err)
	authority, err := ca.NewSigner(files)
	must(t, err)
	friends := mtls.NewSource(signer{authority}, mtls.SourceOptions{Log: logr.Discard()})
	t.Cleanup(friends.Close)
	root, _ := pem.Decode(files[ca.RootKey])
	must(t, w.east.certs.Follow(map[string]*mesh.Bundle{"friend.example": {TrustDomain: "friend.example", Roots: [][]byte{root.Bytes}}}))

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tunnel := func(from *mtls.Source, as mesh.Identity) *hbone.Conn {
		t.Helper()
		nc, err := w.plain.dial("10.77.0.3:15008")
		must(t, err)
		config := from.Client(as, nil)
		config.VerifyConnection = nil // whoever it is: the other end's judgement is what is tested
		secured := tls.Client(hbone.NewTransport(nc), config)
		must(t, secured.HandshakeContext(ctx))
		conn, err := hbone.NewClient(secured, hbone.DefaultSettings())
		must(t, err)
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	open := func(conn *hbone.Conn) (*hbone.Stream, error) {
		stream, _, err := conn.Open(ctx, "10.77.0.3:8080", nil)
		return stream, err
	}
	theirs := tunnel(friends, mesh.Identity{TrustDomain: "friend.example", Namespace: "demo", ServiceAccount: "client"})
	ours := tunnel(w.east.certs, mesh.Identity{TrustDomain: trustDomain, Namespace: "demo", ServiceAccount: "client"})
	running, err := open(theirs)
	must(t, err)
	kept, err := open(ours)
	must(t, err)

	must(t, w.east.certs.Follow(map[string]*mesh.Bundle{"friend.example": nil}))
	must(t, running.SetReadDeadline(time.Now().Add(10*time.Second)))
	if _, err := io.Copy(io.Discard, running); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("what they had open goes on")
	}
	if _, err := open(theirs); err == nil {
		t.Error("their tunnel carries something new")
	}
	w.east.log.find(t, `"reason":"TLS_FAILURE"`, `"direction":"inbound"`, `friend.example`)
	for _, again := range []func() (*hbone.Stream, error){func() (*hbone.Stream, error) { return kept, nil }, func() (*hbone.Stream, error) { return open(ours) }} {
		stream, err := again()
		must(t, err)
		_, err = stream.Write([]byte("x"))
		must(t, err)
		must(t, stream.CloseWrite())
		got, err := io.ReadAll(stream)
		if err != nil || string(got) != "east-server 10.77.0.4 x" {
			t.Errorf("our own: %q, %v", got, err)
		}
	}
}
