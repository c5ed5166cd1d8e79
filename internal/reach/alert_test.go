// SPDX-License-Identifier: Apache-2.0

package reach

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/ca"
	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

type alert uint8

func (alert) Error() string { return "alert" }

// remoteAlert is an error as crypto/tls makes it; TestAlertOfAServer sees that it does.
func remoteAlert(code uint8) error { return &net.OpError{Op: "remote error", Err: alert(code)} }

type issuer struct{ *ca.Signer }

func (s issuer) Issue(_ context.Context, id mesh.Identity, csrPEM []byte) ([]string, error) {
	return s.Sign(id, csrPEM, time.Hour)
}

// A server that does not believe its client says so after the client's own handshake is over, which then learns it from its first request.
func TestAlertOfAServer(t *testing.T) {
	authority, err := ca.SelfSigned("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ca.NewSigner(authority)
	if err != nil {
		t.Fatal(err)
	}
	source := mtls.NewSource(issuer{signer}, mtls.SourceOptions{})
	defer source.Close()
	server, client := mesh.Identity{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "cart"}, mesh.Identity{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "client"}
	config := source.Server(server)
	config.VerifyConnection = func(tls.ConnectionState) error { return errors.New("a stranger") }
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer nc.Close()
				if tls.Server(nc, config).Handshake() == nil {
					t.Error("it believes its client")
				}
				_, _ = io.Copy(io.Discard, nc) // or what is unread resets the connection, and the alert with it
			}()
		}
	}()
	tunnels := NewTunnels(TunnelOptions{Certificates: source, Settings: hbone.DefaultSettings(), Health: NewHealth(time.Now, noChance), Connect: func(context.Context, netip.AddrPort) (relay.Conn, error) {
		nc, err := net.Dial("tcp", l.Addr().String())
		return relay.AsConn(nc), err
	}})
	defer tunnels.Close()
	plan := Plan{Via: HBONE, Dial: netip.MustParseAddrPort("10.0.0.1:15008"), Target: "10.0.0.1:80", Next: []mesh.Identity{server}, Picked: "cart"}
	_, failure := tunnels.Dial(t.Context(), client, plan, nil, "east")
	if failure == nil {
		t.Fatal("it was let in")
	}
	if code, ok := alertOf(failure.Refusal); !ok || code != 42 || !accusesUs(failure.Refusal) || failure.Reason != ReasonTLS {
		t.Errorf("alert %d (%v) in: %v", code, ok, failure.Refusal)
	}
	for _, err := range []error{nil, io.EOF, &net.OpError{Op: "read", Err: io.EOF}, &net.OpError{Op: "dial", Err: remoteAlert(10)}} {
		if code, ok := alertOf(err); ok && code != 10 {
			t.Errorf("an alert in %v", err)
		}
	}
}
