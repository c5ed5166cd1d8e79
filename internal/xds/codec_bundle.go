// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"crypto/x509"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds/pb/trustpb"
)

// maxRootBytes bounds one certificate; one with an RSA-4096 key has about 1500.
const maxRootBytes = 64 << 10

// encodeBundle gives the bytes of a Bundle resource.
func encodeBundle(b *mesh.Bundle) ([]byte, error) {
	return marshal.Marshal(&trustpb.Bundle{TrustDomain: b.TrustDomain, Roots: b.Roots, Revoked: b.Revoked, AliasOf: b.AliasOf})
}

// bundleFromProto takes no bundle that is empty or of which a part cannot be read: half of a bundle would refuse peers that are right.
func bundleFromProto(b *trustpb.Bundle) (*mesh.Bundle, error) {
	var r reader
	out := &mesh.Bundle{TrustDomain: r.must("trust_domain", b.GetTrustDomain(), maxName), Roots: b.GetRoots(), Revoked: b.GetRevoked(), AliasOf: r.text("alias_of", b.GetAliasOf(), maxName)}
	if _, err := mesh.ParseIdentity("spiffe://" + b.GetTrustDomain() + "/ns/n/sa/s"); err != nil {
		r.fail("trust_domain %q is not one", clip(b.GetTrustDomain()))
	}
	if alias := b.GetAliasOf(); alias != "" {
		if _, err := mesh.ParseIdentity("spiffe://" + alias + "/ns/n/sa/s"); err != nil || alias == b.GetTrustDomain() {
			r.fail("alias_of %q is not another trust domain", clip(alias))
		}
	}
	if len(out.Roots) == 0 {
		r.fail("roots is empty")
	}
	if r.count("roots", len(out.Roots), mesh.MaxRoots) {
		for _, root := range out.Roots {
			if len(root) > maxRootBytes {
				r.fail("a root has %d bytes, at most %d are accepted", len(root), maxRootBytes)
				break
			}
			if _, err := x509.ParseCertificate(root); err != nil {
				r.fail("a root cannot be read: %v", err)
				break
			}
		}
	}
	if r.count("revoked", len(out.Revoked), mesh.MaxLists) {
		size := 0
		for _, list := range out.Revoked {
			if size += len(list); size > mesh.MaxListBytes {
				r.fail("the revocation lists have more than %d bytes", mesh.MaxListBytes)
				break
			}
			if _, err := x509.ParseRevocationList(list); err != nil {
				r.fail("a revocation list cannot be read: %v", err)
				break
			}
		}
	}
	if r.err != nil {
		return nil, r.err
	}
	return out, nil
}
