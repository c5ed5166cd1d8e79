// SPDX-License-Identifier: Apache-2.0

package ca_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/internal/ca"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
	"github.com/isthmus-mesh/isthmus/internal/xds"
	"github.com/isthmus-mesh/isthmus/test/ambient"
)

// A ztunnel gets certificates that it takes from our service.
func TestZtunnelIsCertified(t *testing.T) {
	addr, signer := serve(t)
	o := ambient.Options{Address: addr, ServerName: "controller.test", Roots: signer.Roots(), Token: "proxy", ClusterID: "east"}
	for _, tc := range []struct {
		id   mesh.Identity
		own  bool
		want codes.Code
	}{
		{proxy, true, codes.OK},
		{cart, false, codes.OK},
		{admin, false, codes.Unauthenticated},
		{mesh.Identity{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "nobody"}, false, codes.Unauthenticated},
	} {
		cert, roots, err := o.Certify(t.Context(), tc.id.String(), tc.own)
		if status.Code(err) != tc.want {
			t.Errorf("%s: %v", tc.id, err)
			continue
		}
		if err == nil && (!roots.Equal(signer.Roots()) || time.Until(cert.Leaf.NotAfter) > 24*time.Hour) {
			t.Errorf("%s: certificate ends at %s", tc.id, cert.Leaf.NotAfter)
		}
	}
	o.Token = "stranger"
	if _, _, err := o.Certify(t.Context(), cart.String(), false); status.Code(err) != codes.Unauthenticated {
		t.Errorf("a stranger gets %v", err)
	}
}

// Our proxies ask an istiod as a ztunnel does, and take its answers, if they are what was asked for.
func TestIstiodIsAsked(t *testing.T) {
	files, err := ca.SelfSigned("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ca.NewSigner(files)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var asked []ambient.Request
	change := func(chain []string) []string { return chain }
	authority := ambient.Authority(func(r ambient.Request) ([]string, error) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, r)
		id := proxy
		if name := r.Metadata["ImpersonatedIdentity"]; name != "" {
			var err error
			if id, err = mesh.ParseIdentity(name); err != nil {
				return nil, err
			}
		}
		chain, err := signer.Sign(id, []byte(r.CSR), time.Duration(r.Seconds)*time.Second)
		return change(chain), err
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- authority.Serve(ctx, l, ca.ServerConfig(func() *ca.Signer { return signer }, "controller.test"))
	}()
	t.Cleanup(func() { cancel(); <-done })

	source := mtls.NewSource(client(t, l.Addr().String(), "token", "east", signer.Roots()), mtls.SourceOptions{})
	defer source.Close()
	for _, tc := range []struct {
		id       mesh.Identity
		metadata string
	}{{proxy, ""}, {cart, cart.String()}} {
		if _, err := source.Certificate(t.Context(), tc.id); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		r := asked[len(asked)-1]
		mu.Unlock()
		if r.Authorization != "Bearer token" || r.ClusterID != "east" || r.Seconds != 86400 || r.Metadata["ImpersonatedIdentity"] != tc.metadata {
			t.Errorf("asked for %s with %q %q, %d s, %v", tc.id, r.Authorization, r.ClusterID, r.Seconds, r.Metadata)
		}
		if err := likeZtunnels(r.CSR, tc.id.String()); err != nil {
			t.Errorf("request for %s: %v", tc.id, err)
		}
	}

	for what, bad := range map[string]func([]string) []string{
		"no root":     func(chain []string) []string { return chain[:1] },
		"nothing":     func([]string) []string { return nil },
		"another":     func(chain []string) []string { return append([]string{certificateOf(t, signer, admin)}, chain[1:]...) },
		"not a leaf":  func(chain []string) []string { return append([]string{"-----"}, chain[1:]...) },
		"a long tail": func(chain []string) []string { return append(slices.Repeat(chain[:1], 20), chain[1:]...) },
	} {
		mu.Lock()
		change = bad
		mu.Unlock()
		c := client(t, l.Addr().String(), "token", "east", signer.Roots())
		if _, err := c.Issue(t.Context(), cart, csr(t)); err == nil {
			t.Errorf("%s: the answer is taken", what)
		}
	}
}

// likeZtunnels says what sets a request apart from ztunnel's: P-256, no subject, one critical URI.
func likeZtunnels(csrPEM, id string) error {
	block, rest := pem.Decode([]byte(csrPEM))
	if block == nil || len(strings.TrimSpace(string(rest))) > 0 {
		return errors.New("is not one block of PEM")
	}
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return err
	}
	key, ok := r.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve.Params().BitSize != 256 || r.SignatureAlgorithm != x509.ECDSAWithSHA256 {
		return errors.New("has another kind of key")
	}
	if len(r.Subject.Names) > 0 || len(r.URIs) != 1 || r.URIs[0].String() != id {
		return errors.New("names somebody else")
	}
	for _, e := range r.Extensions {
		if e.Id.String() == "2.5.29.17" && !e.Critical {
			return errors.New("its name is not critical")
		}
	}
	return nil
}

func certificateOf(t *testing.T, signer *ca.Signer, id mesh.Identity) string {
	t.Helper()
	chain, err := signer.Sign(id, csr(t), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return chain[0]
}

var _ mtls.Issuer = (*xds.CertificateClient)(nil)
