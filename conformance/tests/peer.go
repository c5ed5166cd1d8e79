// SPDX-License-Identifier: Apache-2.0

//go:build conformance

package tests

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"

	"github.com/isthmus-mesh/isthmus/internal/ca"
	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
)

const (
	trustDomain     = "cluster.local"
	systemNamespace = "isthmus-system"
	gatewayLabel    = "gateway.networking.k8s.io/gateway-name"
	reasonHeader    = "x-isthmus-reason"
	// callTime bounds one call through a gateway: it is a few round trips on one machine.
	callTime = 10 * time.Second
)

// peer is a workload of another cluster, as far as a gateway can tell: its certificate is of the mesh's authority.
type peer struct {
	source *mtls.Source
	id     mesh.Identity
}

// authority signs with the key of the mesh's authority, which a cluster's administrator may read.
type authority struct{ signer *ca.Signer }

// Issue implements mtls.Issuer.
func (a authority) Issue(_ context.Context, id mesh.Identity, csrPEM []byte) ([]string, error) {
	return a.signer.Sign(id, csrPEM, time.Hour)
}

// newPeer makes one, which ends with the test.
func newPeer(t *testing.T, s *suite.ConformanceTestSuite) *peer {
	t.Helper()
	var secret corev1.Secret
	for _, name := range []string{"cacerts", "isthmus-ca"} { // the given one comes first
		err := s.Client.Get(t.Context(), client.ObjectKey{Namespace: systemNamespace, Name: name}, &secret)
		if err == nil {
			break
		}
		if client.IgnoreNotFound(err) != nil || name == "isthmus-ca" {
			t.Fatalf("the mesh's authority: %v", err)
		}
	}
	signer, err := ca.NewSigner(secret.Data)
	if err != nil {
		t.Fatalf("the mesh's authority: %v", err)
	}
	source := mtls.NewSource(authority{signer}, mtls.SourceOptions{})
	t.Cleanup(source.Close)
	return &peer{source, mesh.Identity{TrustDomain: trustDomain, Namespace: "elsewhere", ServiceAccount: "client"}}
}

// gatewayIdentity is what the process of a Gateway proves: the ServiceAccount that was made for it.
func gatewayIdentity(t *testing.T, s *suite.ConformanceTestSuite, gateway client.ObjectKey) mesh.Identity {
	t.Helper()
	var accounts corev1.ServiceAccountList
	if err := s.Client.List(t.Context(), &accounts, client.InNamespace(gateway.Namespace), client.MatchingLabels{gatewayLabel: gateway.Name}); err != nil {
		t.Fatal(err)
	}
	if len(accounts.Items) != 1 {
		t.Fatalf("Gateway %s has %d ServiceAccounts, want one", gateway, len(accounts.Items))
	}
	return mesh.Identity{TrustDomain: trustDomain, Namespace: gateway.Namespace, ServiceAccount: accounts.Items[0].Name}
}

// outer makes the outer tunnel to a gateway.
func (p *peer) outer(ctx context.Context, address string, gateway mesh.Identity) (*hbone.Conn, error) {
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	secure := tls.Client(nc, p.source.Client(p.id, []mesh.Identity{gateway}))
	if err := secure.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, fmt.Errorf("outer TLS: %w", err)
	}
	return hbone.NewClient(secure, hbone.Settings{})
}

// get asks a service for "/" through both tunnels, of which the inner one ends at a workload with the identity last, and gives the status of the answer.
func (p *peer) get(ctx context.Context, address string, gateway mesh.Identity, service string, last mesh.Identity) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	outer, err := p.outer(ctx, address, gateway)
	if err != nil {
		return 0, err
	}
	defer outer.Close()
	stream, _, err := outer.Open(ctx, service, nil)
	if err != nil {
		return 0, fmt.Errorf("outer CONNECT %s: %w", service, err)
	}
	defer stream.Close()
	secure := tls.Client(stream, p.source.Client(p.id, []mesh.Identity{last}))
	if err := secure.HandshakeContext(ctx); err != nil {
		return 0, fmt.Errorf("inner TLS: %w", err)
	}
	inner, err := hbone.NewClient(secure, hbone.Settings{})
	if err != nil {
		return 0, fmt.Errorf("inner tunnel: %w", err)
	}
	defer inner.Close()
	way, _, err := inner.Open(ctx, service, hbone.Header{{Name: "x-forwarded-network", Value: "elsewhere"}})
	if err != nil {
		return 0, fmt.Errorf("inner CONNECT %s: %w", service, err)
	}
	defer way.Close()
	defer context.AfterFunc(ctx, func() { way.Close() })()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+service+"/", nil)
	if err != nil {
		return 0, err
	}
	if err := request.Write(way); err != nil {
		return 0, err
	}
	response, err := http.ReadResponse(bufio.NewReader(way), request)
	if err != nil {
		return 0, err
	}
	return response.StatusCode, response.Body.Close()
}

// refusal is the status and the reason of a CONNECT that a gateway has refused; 0: err is about something else.
func refusal(err error) (int, string) {
	if refused, ok := errors.AsType[*hbone.RefusedError](err); ok {
		return refused.Status, refused.Header.Get(reasonHeader)
	}
	return 0, ""
}

// eventually polls until f fails no more, or time is up.
func eventually(t *testing.T, timeout time.Duration, what string, f func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited %s in vain until %s: %v", timeout, what, err)
		}
	}
}
