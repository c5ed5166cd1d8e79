// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nodeproxy_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/redirect"
)

// Somebody outside of the mesh opens a thousand connections to a pod's tunnel port and sends a byte each, or a ClientHello and nothing more. The tunnels of others
// are made as before, those that come from the same address, too.
func TestStrangersHoldNobodyUp(t *testing.T) {
	w := newWorld(t)
	id := mesh.Identity{TrustDomain: trustDomain, Namespace: "demo", ServiceAccount: "caller"}
	server := mesh.Identity{TrustDomain: trustDomain, Namespace: "demo", ServiceAccount: "server"}
	if _, err := w.east.certs.Certificate(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	other := w.east.pod("other", "10.77.0.5", nil)
	handshake := func(from *space) time.Duration {
		t.Helper()
		nc, err := from.dial("10.77.0.3:15008")
		must(t, err)
		defer nc.Close()
		began := time.Now()
		if err := tls.Client(nc, w.east.certs.Client(id, []mesh.Identity{server})).HandshakeContext(t.Context()); err != nil {
			t.Fatalf("an honest handshake: %v after %v", err, time.Since(began))
		}
		return time.Since(began)
	}
	slowest := func(from *space) (most time.Duration) {
		t.Helper()
		for range 15 {
			most = max(most, handshake(from))
		}
		return most
	}
	before := slowest(other)
	hello := clientHello()
	for _, tc := range []struct {
		name     string
		say      []byte
		answered bool
	}{{"a byte each", hello[:1], false}, {"a ClientHello each", hello, true}} {
		var held []net.Conn
		must(t, redirect.Inside(w.plain.file, func() error {
			for range 1000 {
				nc, err := net.Dial("tcp", "10.77.0.3:15008")
				if err != nil {
					return err
				}
				held = append(held, nc)
				if _, err := nc.Write(tc.say); err != nil {
					return err
				}
			}
			return nil
		}))
		// It is what they hold that counts, and not that a machine is busy until all of them are answered, or sent away.
		for _, nc := range held {
			if !tc.answered {
				break
			}
			must(t, nc.SetReadDeadline(time.Now().Add(time.Minute)))
			if _, err := nc.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("%s: one is neither answered nor sent away", tc.name)
			}
		}
		others, same := slowest(other), slowest(w.plain)
		t.Logf("%s: %v, from their own address %v; before %v", tc.name, others, same, before)
		if limit := 10*before + 500*time.Millisecond; others > limit || same > limit {
			t.Errorf("%s: %v, from their own address %v; before it were %v", tc.name, others, same, before)
		}
		for _, nc := range held {
			nc.Close()
		}
	}
}

// clientHello is what a client begins with.
func clientHello() []byte {
	var sent bytes.Buffer
	_ = tls.Client(&deaf{to: &sent}, &tls.Config{InsecureSkipVerify: true}).Handshake() // with nobody
	return sent.Bytes()
}

type deaf struct {
	net.Conn
	to io.Writer
}

func (c *deaf) Read([]byte) (int, error)    { return 0, io.EOF }
func (c *deaf) Write(p []byte) (int, error) { return c.to.Write(p) }
func (c *deaf) Close() error                { return nil }
