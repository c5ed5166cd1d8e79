// SPDX-License-Identifier: Apache-2.0

package ca_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/ca"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
)

// issuing gives certificates of one signer.
type issuing struct{ *ca.Signer }

func (i issuing) Issue(_ context.Context, id mesh.Identity, csrPEM []byte) ([]string, error) {
	return i.Sign(id, csrPEM, time.Hour)
}

// A root is rotated in steps. Proxies renew at times of their own, so at each step some hold what the step before gave and some what this one gives:
// they must all meet. Two steps at once lose handshakes, which is why there are steps.
func TestRootRotation(t *testing.T) {
	old, young := selfSignedFiles(t), selfSignedFiles(t)
	both := slices.Concat(old[ca.RootKey], young[ca.RootKey])
	with := func(files map[string][]byte, roots []byte) *ca.Signer {
		s, err := ca.NewSigner(map[string][]byte{ca.CertKey: files[ca.CertKey], ca.KeyKey: files[ca.KeyKey], ca.RootKey: roots})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	steps := []*ca.Signer{
		with(old, old[ca.RootKey]),     // as it was
		with(old, both),                // bundles first
		with(young, both),              // issuers second
		with(young, young[ca.RootKey]), // and the old root goes
	}
	var proxies []*mtls.Source
	for _, s := range steps {
		source := mtls.NewSource(issuing{s}, mtls.SourceOptions{})
		defer source.Close()
		for _, id := range []mesh.Identity{proxy, cart} {
			if _, err := source.Certificate(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
		proxies = append(proxies, source)
	}
	for i, client := range proxies {
		for j, server := range proxies {
			err := meet(client, server)
			if neighbours := max(i, j)-min(i, j) <= 1; (err == nil) != neighbours {
				t.Errorf("a client of step %d and a server of step %d: %v", i, j, err)
			}
			if accepted := steps[i].Accepts(steps[j]) && steps[j].Accepts(steps[i]); accepted != (err == nil) {
				t.Errorf("steps %d and %d: Accepts says %t, and they meet with %v", i, j, accepted, err)
			}
		}
	}
}

func selfSignedFiles(t *testing.T) map[string][]byte {
	t.Helper()
	files, err := ca.SelfSigned("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// meet makes a handshake in which both sides prove themselves, and a byte each way.
func meet(from, to *mtls.Source) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := l.Accept()
	if err != nil {
		return err
	}
	defer b.Close()
	client, server := tls.Client(a, from.Client(proxy, []mesh.Identity{cart})), tls.Server(b, to.Server(cart))
	served := make(chan error, 1)
	go func() {
		_, err := server.Read(make([]byte, 1))
		if err == nil {
			_, err = server.Write([]byte{1})
		}
		if err != nil {
			b.Close()
		}
		served <- err
	}()
	_, err = client.Write([]byte{1})
	if err == nil {
		_, err = client.Read(make([]byte, 1))
	}
	a.Close()
	return errors.Join(err, <-served)
}
