// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/ca"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
)

// The two ends of every connection that is measured.
var (
	serverIdentity = mesh.Identity{TrustDomain: "cluster.local", Namespace: "edge", ServiceAccount: "west"}
	clientIdentity = mesh.Identity{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "till"}
)

// signed gets certificates straight from an authority of this process.
type signed struct{ signer *ca.Signer }

func (s signed) Issue(_ context.Context, id mesh.Identity, csrPEM []byte) ([]string, error) {
	return s.signer.Sign(id, csrPEM, time.Hour)
}

// newSource makes an authority and a source of certificates that it signs: the product's TLS 1.3 with P-256 leaves, both ends proved.
func newSource() (*mtls.Source, error) {
	files, err := ca.SelfSigned("cluster.local")
	if err != nil {
		return nil, err
	}
	signer, err := ca.NewSigner(files)
	if err != nil {
		return nil, err
	}
	return mtls.NewSource(signed{signer}, mtls.SourceOptions{}), nil
}
