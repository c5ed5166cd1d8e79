// SPDX-License-Identifier: Apache-2.0

package ca_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/isthmus-mesh/isthmus/internal/ca"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds"
	"github.com/isthmus-mesh/isthmus/internal/xds/pb/authpb"
)

var (
	proxy = mesh.Identity{TrustDomain: "cluster.local", Namespace: "isthmus-system", ServiceAccount: "isthmus-nodeproxy"}
	cart  = mesh.Identity{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "cart"}
	admin = mesh.Identity{TrustDomain: "cluster.local", Namespace: "kube-system", ServiceAccount: "admin"}
)

// authorize lets the token "proxy" of cluster "east" ask for itself and for cart.
func authorize(ctx context.Context, requested mesh.Identity) (mesh.Identity, error) {
	token, cluster, err := xds.Credentials(ctx)
	switch {
	case err != nil:
		return mesh.Identity{}, err
	case token == "slow":
		return mesh.Identity{}, fmt.Errorf("review token: %w", context.DeadlineExceeded)
	case token != "proxy" || cluster != "east":
		return mesh.Identity{}, errors.New("token is not good")
	case requested.IsZero():
		return proxy, nil
	case requested == cart:
		return cart, nil
	case requested == admin:
		return proxy, nil // a mistake that the service must not make worse
	}
	for _, code := range []codes.Code{codes.NotFound, codes.PermissionDenied} {
		if requested.ServiceAccount == code.String() {
			return mesh.Identity{}, status.Error(code, "so it is")
		}
	}
	return mesh.Identity{}, fmt.Errorf("no pod of %s runs on this node", requested)
}

// serve runs the service as the controller does, and gives its address and the roots that prove it.
func serve(t *testing.T) (addr string, signer *ca.Signer) { return serveFor(t, 0) }

// serveFor is serve with a longest lifetime.
func serveFor(t *testing.T, longest time.Duration) (addr string, signer *ca.Signer) {
	t.Helper()
	return serveCounted(t, longest, nil)
}

// serveCounted is serveFor with metrics.
func serveCounted(t *testing.T, longest time.Duration, metrics prometheus.Registerer) (addr string, signer *ca.Signer) {
	t.Helper()
	files, err := ca.SelfSigned("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	if signer, err = ca.NewSigner(files); err != nil {
		t.Fatal(err)
	}
	get := func() *ca.Signer { return signer }
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	service := ca.NewService(ca.ServiceOptions{Log: testr.New(t), Signer: get, Authorize: authorize, MaxLifetime: longest, Registerer: metrics})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- xds.Serve(ctx, l, ca.ServerConfig(get, "controller.test"), service) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return l.Addr().String(), signer
}

func client(t *testing.T, addr, token, cluster string, roots *x509.CertPool) *xds.CertificateClient {
	t.Helper()
	c, err := xds.NewCertificateClient(xds.ClientOptions{
		Target: addr, ServerName: "controller.test", Cluster: cluster,
		RootCAs: func() *x509.CertPool { return roots },
		Token:   func() (string, error) { return token, nil },
	}, proxy)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func csr(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

// TestIssuedLeavesAreCounted: those that were given out, by their root.
func TestIssuedLeavesAreCounted(t *testing.T) {
	metrics := prometheus.NewRegistry()
	addr, signer := serveCounted(t, 0, metrics)
	good := client(t, addr, "proxy", "east", signer.Roots())
	for _, id := range []mesh.Identity{proxy, cart} {
		if _, err := good.Issue(t.Context(), id, csr(t)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := good.Issue(t.Context(), admin, csr(t)); err == nil {
		t.Fatal("a certificate for an identity that runs elsewhere")
	}
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			if m.Label[0].GetValue() == ca.RootName(signer.Top()) {
				told[f.GetName()] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	if told["isthmus_ca_leaves_signed_total"] != 2 || told["isthmus_ca_leaves_alive"] != 2 {
		t.Errorf("two certificates were given out, and the metrics say %v", told)
	}
}

func TestIssue(t *testing.T) {
	addr, signer := serve(t)
	good := client(t, addr, "proxy", "east", signer.Roots())
	for _, id := range []mesh.Identity{proxy, cart} {
		chain, err := good.Issue(t.Context(), id, csr(t))
		if err != nil {
			t.Errorf("%s: %v", id, err)
			continue
		}
		block, _ := pem.Decode([]byte(chain[0]))
		leaf, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if leaf.URIs[0].String() != id.String() || chain[len(chain)-1] != signer.RootPEM() {
			t.Errorf("%s: leaf is for %v", id, leaf.URIs)
		}
		if got := time.Until(leaf.NotAfter); got < 23*time.Hour || got > 24*time.Hour {
			t.Errorf("%s: leaf ends in %s", id, got)
		}
	}

	other, err := ca.SelfSigned("elsewhere")
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := ca.NewSigner(other)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		client *xds.CertificateClient
		id     mesh.Identity
		csr    []byte
		want   codes.Code
	}{
		"not on this node":  {good, mesh.Identity{TrustDomain: "cluster.local", Namespace: "a", ServiceAccount: "b"}, csr(t), codes.Unauthenticated},
		"never":             {good, mesh.Identity{TrustDomain: "cluster.local", Namespace: "a", ServiceAccount: codes.PermissionDenied.String()}, csr(t), codes.PermissionDenied},
		"not there":         {good, mesh.Identity{TrustDomain: "cluster.local", Namespace: "a", ServiceAccount: codes.NotFound.String()}, csr(t), codes.NotFound},
		"other than asked":  {good, admin, csr(t), codes.Unauthenticated},
		"bad token":         {client(t, addr, "x", "east", signer.Roots()), proxy, csr(t), codes.Unauthenticated},
		"no cluster":        {client(t, addr, "proxy", "", signer.Roots()), proxy, csr(t), codes.Unauthenticated},
		"no token":          {client(t, addr, "", "east", signer.Roots()), proxy, csr(t), codes.Unauthenticated},
		"bad request":       {good, proxy, []byte("x"), codes.InvalidArgument},
		"bad identity":      {good, mesh.Identity{TrustDomain: "A/b", Namespace: "a", ServiceAccount: "b"}, csr(t), codes.InvalidArgument},
		"review takes long": {client(t, addr, "slow", "east", signer.Roots()), proxy, csr(t), codes.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tc.client.Issue(t.Context(), tc.id, tc.csr)
			if err == nil || !strings.Contains(err.Error(), tc.want.String()) {
				t.Errorf("error is %v, want %s", err, tc.want)
			}
			_, refused := errors.AsType[interface {
				error
				Refused() bool
			}](err)
			if want := tc.want == codes.PermissionDenied || tc.want == codes.NotFound; refused != want {
				t.Errorf("is the answer definite: %v, want %v", refused, want)
			}
		})
	}
	t.Run("other roots", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := client(t, addr, "proxy", "east", stranger.Roots()).Issue(ctx, proxy, csr(t)); err == nil {
			t.Error("a control plane of other roots was believed")
		}
	})
}

// What a shared proxy of another make sends: lifetimes may be any number, and a metadata field of another type is none.
func TestRequestsOfOthers(t *testing.T) {
	addr, signer := serve(t)
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(signer.Roots(), "controller.test")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	for name, tc := range map[string]struct {
		seconds  int64
		metadata *structpb.Value
		want     codes.Code
		lifetime time.Duration
	}{
		"for ever":          {1<<63 - 1, nil, codes.OK, 24 * time.Hour},
		"negative":          {-1 << 63, nil, codes.OK, 24 * time.Hour},
		"an hour":           {3600, structpb.NewStringValue(cart.String()), codes.OK, time.Hour},
		"number":            {0, structpb.NewNumberValue(1), codes.InvalidArgument, 0},
		"not an identity":   {0, structpb.NewStringValue("spiffe://cluster.local/ns/shop"), codes.InvalidArgument, 0},
		"another's, signed": {0, structpb.NewStringValue(admin.String()), codes.Unauthenticated, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := &authpb.IstioCertificateRequest{Csr: string(csr(t)), ValidityDuration: tc.seconds}
			if tc.metadata != nil {
				r.Metadata = &structpb.Struct{Fields: map[string]*structpb.Value{"ImpersonatedIdentity": tc.metadata}}
			}
			answer, err := authpb.NewIstioCertificateServiceClient(conn).CreateCertificate(t.Context(), r, grpc.PerRPCCredentials(bearer{}))
			if status.Code(err) != tc.want {
				t.Fatalf("error is %v, want %s", err, tc.want)
			}
			if err != nil {
				return
			}
			block, _ := pem.Decode([]byte(answer.GetCertChain()[0]))
			leaf, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			if got := time.Until(leaf.NotAfter); got > tc.lifetime || got < tc.lifetime-time.Minute {
				t.Errorf("leaf ends in %s, want %s", got, tc.lifetime)
			}
		})
	}
}

// TestLongestLifetime: whatever is asked for, by whomever; and what is less is given.
func TestLongestLifetime(t *testing.T) {
	for _, tc := range []struct{ longest, asked, want time.Duration }{
		{0, 90 * 24 * time.Hour, 24 * time.Hour},
		{2 * time.Hour, 0, 2 * time.Hour},
		{2 * time.Hour, 24 * time.Hour, 2 * time.Hour},
		{2 * time.Hour, time.Hour, time.Hour},
		{48 * time.Hour, 0, 24 * time.Hour},
		{48 * time.Hour, 90 * 24 * time.Hour, 48 * time.Hour},
		{365 * 24 * time.Hour, 365 * 24 * time.Hour, ca.MaxLifetime},
	} {
		addr, signer := serveFor(t, tc.longest)
		conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(signer.Roots(), "controller.test")))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		answer, err := authpb.NewIstioCertificateServiceClient(conn).CreateCertificate(t.Context(),
			&authpb.IstioCertificateRequest{Csr: string(csr(t)), ValidityDuration: int64(tc.asked / time.Second)}, grpc.PerRPCCredentials(bearer{}))
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode([]byte(answer.GetCertChain()[0]))
		leaf, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if got := time.Until(leaf.NotAfter); got > tc.want || got < tc.want-time.Minute {
			t.Errorf("at most %s, asked for %s: ends in %s, want %s", tc.longest, tc.asked, got, tc.want)
		}
	}
}

// Nothing is read of a caller that nobody knows, and one that never finishes its request does not wait for ever.
func TestRequestIsReadAfterItsCallerIsKnown(t *testing.T) {
	addr, signer := serve(t)
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(signer.Roots(), "controller.test")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	open := func(opts ...grpc.CallOption) grpc.ClientStream {
		stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true},
			authpb.IstioCertificateService_CreateCertificate_FullMethodName, opts...)
		if err != nil {
			t.Fatal(err)
		}
		return stream
	}
	if err := open().RecvMsg(&authpb.IstioCertificateResponse{}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("without credentials and request: %v", err)
	}
	empty := open(grpc.PerRPCCredentials(bearer{}))
	if err := empty.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := empty.RecvMsg(&authpb.IstioCertificateResponse{}); status.Code(err) != codes.Internal {
		t.Errorf("without request: %v, want what gRPC says of a call that has none", err)
	}
}

type bearer struct{}

func (bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer proxy", "clusterid": "east"}, nil
}
func (bearer) RequireTransportSecurity() bool { return true }
