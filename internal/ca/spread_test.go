// SPDX-License-Identifier: Apache-2.0

package ca_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/ca"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
)

// rotating issues by the signer of the moment, for as long as is usual.
type rotating struct{ signer atomic.Pointer[ca.Signer] }

func (r *rotating) Issue(_ context.Context, id mesh.Identity, csrPEM []byte) ([]string, error) {
	return r.signer.Load().Sign(id, csrPEM, ca.DefaultLifetime)
}

// spread is by when everybody who hears of roots with certificates only has a new one, as docs/identity.md says: certificates of 24 h are renewed when half
// of what is left is over, give or take a tenth of that.
const spread = 13*time.Hour + 12*time.Minute

// By the clock: a new root in the bundle reaches every holder of a certificate within the documented time after the step, however unlucky it was, and not much
// sooner, so that the figure means something. No leaf outlives its issuer meanwhile.
func TestRootSpreadsWithCertificates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, young := selfSignedFiles(t), selfSignedFiles(t)
		signer := func(roots []byte) *ca.Signer {
			s, err := ca.NewSigner(map[string][]byte{ca.CertKey: old[ca.CertKey], ca.KeyKey: old[ca.KeyKey], ca.RootKey: roots})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		var issuer rotating
		issuer.signer.Store(signer(old[ca.RootKey]))
		source := mtls.NewSource(&issuer, mtls.SourceOptions{})
		defer source.Close()
		ids := make([]mesh.Identity, 100)
		for i := range ids {
			ids[i] = mesh.Identity{TrustDomain: "cluster.local", Namespace: "n", ServiceAccount: fmt.Sprint("sa-", i)}
			if _, err := source.Certificate(t.Context(), ids[i]); err != nil {
				t.Fatal(err)
			}
		}
		block, _ := pem.Decode(young[ca.RootKey])
		root, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		knows := func() (n int) {
			for _, id := range ids {
				cert, err := source.Certificate(t.Context(), id)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := root.Verify(x509.VerifyOptions{Roots: cert.Roots}); err == nil {
					n++
				}
			}
			return n
		}
		issuer.signer.Store(signer(slices.Concat(old[ca.RootKey], young[ca.RootKey]))) // just after everybody was certified
		time.Sleep(10 * time.Hour)
		if n := knows(); n != 0 {
			t.Errorf("%d certificates were renewed within 10 h", n)
		}
		time.Sleep(spread - 10*time.Hour)
		synctest.Wait()
		if n := knows(); n != len(ids) {
			t.Errorf("after %v %d of %d know the new root", spread, n, len(ids))
		}
	})
}

// An issuer near its end: leaves end with it at the latest, are renewed as they get shorter, and come whole again from the issuer that follows.
func TestLeafNeverOutlivesItsIssuer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var issuer rotating
		begin := func() time.Time {
			s, err := ca.NewSigner(selfSignedFiles(t))
			if err != nil {
				t.Fatal(err)
			}
			issuer.signer.Store(s)
			return s.NotAfter()
		}
		ends := begin()
		time.Sleep(time.Until(ends) - 30*time.Hour)
		source := mtls.NewSource(&issuer, mtls.SourceOptions{})
		defer source.Close()
		for range 60 {
			cert, err := source.Certificate(t.Context(), cart)
			if err != nil {
				t.Fatal(err)
			}
			if cert.NotAfter.After(ends) {
				t.Fatalf("a leaf ends at %v, after its issuer at %v", cert.NotAfter, ends)
			}
			if left := time.Until(ends); left > 0 && left < 2*time.Hour {
				ends = begin()
			}
			time.Sleep(30 * time.Minute)
		}
	})
}
