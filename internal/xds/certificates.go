// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds/pb/authpb"
)

const (
	// impersonationKey is the metadata field in which a shared proxy names the identity it asks for.
	impersonationKey = "ImpersonatedIdentity"
	// issueTimeout bounds one request for a certificate.
	issueTimeout = 10 * time.Second
	// certificateLifetime is what is asked for; the authority may grant less.
	certificateLifetime = 24 * time.Hour
	// maxChain is how many elements an answer may have: a leaf, intermediates, roots.
	maxChain = 16
)

// CertificateClient asks the control plane's certificate service. Its method Issue is what internal/mtls asks for.
type CertificateClient struct {
	options ClientOptions
	self    mesh.Identity
	conn    *grpc.ClientConn
}

// NewCertificateClient makes a client that connects at its first use. self is the identity that the token stands for:
// any other one is asked for in its holder's name.
func NewCertificateClient(o ClientOptions, self mesh.Identity) (*CertificateClient, error) {
	conn, err := dial(o)
	if err != nil {
		return nil, err
	}
	return &CertificateClient{options: o, self: self, conn: conn}, nil
}

// Close ends the connection and with it requests under way.
func (c *CertificateClient) Close() error { return c.conn.Close() }

// Issue asks for a certificate for id, for the key that csrPEM proves. The answer is the leaf, then the intermediates,
// and last the root bundle, each in PEM; it was checked that the leaf is for id. An error whose method Refused gives true is the service's word on id.
func (c *CertificateClient) Issue(ctx context.Context, id mesh.Identity, csrPEM []byte) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, issueTimeout)
	defer cancel()
	ctx, err := authorize(ctx, c.options)
	if err != nil {
		return nil, err
	}
	request := &authpb.IstioCertificateRequest{
		Csr:              string(csrPEM),
		ValidityDuration: int64(certificateLifetime / time.Second),
	}
	if id != c.self {
		request.Metadata = &structpb.Struct{Fields: map[string]*structpb.Value{
			impersonationKey: structpb.NewStringValue(id.String()),
		}}
	}
	response, err := authpb.NewIstioCertificateServiceClient(c.conn).CreateCertificate(ctx, request, grpc.WaitForReady(true))
	if code := status.Code(err); code == codes.PermissionDenied || code == codes.NotFound {
		err = &refusedError{err}
	}
	if err != nil {
		return nil, fmt.Errorf("ask %s for a certificate for %s: %w", c.options.Target, id, err)
	}
	chain := response.GetCertChain()
	if len(chain) < 2 || len(chain) > maxChain {
		return nil, fmt.Errorf("certificate for %s came in a chain of %d, want leaf to root", id, len(chain))
	}
	if err := checkLeaf(chain[0], id); err != nil {
		return nil, fmt.Errorf("certificate for %s: %w", id, err)
	}
	return chain, nil
}

// refusedError is a definite answer: asked again, the service would say the same.
type refusedError struct{ err error }

func (e *refusedError) Error() string { return e.err.Error() }
func (e *refusedError) Unwrap() error { return e.err }

// Refused is what whoever asked looks for (mtls.Issuer).
func (e *refusedError) Refused() bool { return true }

// checkLeaf says whether a certificate names id and nobody else.
func checkLeaf(leaf string, id mesh.Identity) error {
	block, _ := pem.Decode([]byte(leaf))
	if block == nil || block.Type != "CERTIFICATE" {
		return fmt.Errorf("leaf is not a certificate in PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return fmt.Errorf("leaf cannot be read: %w", err)
	}
	if len(cert.URIs) != 1 || cert.URIs[0].String() != id.String() {
		return fmt.Errorf("leaf is for %v", cert.URIs)
	}
	return nil
}
