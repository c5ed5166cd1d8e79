// SPDX-License-Identifier: Apache-2.0

package mtls

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

var (
	cart = mesh.Identity{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "cart"}
	till = mesh.Identity{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "till"}
)

func TestCertificateIsFetchedOnceForAllWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newAuthority(t, "root", nil)
		gate := make(chan struct{})
		ca.set(func(a *authority) { a.block = gate })
		s := NewSource(ca, SourceOptions{})
		defer s.Close()
		var wait sync.WaitGroup
		for range 50 {
			wait.Go(func() {
				if _, err := s.Certificate(t.Context(), cart); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		close(gate)
		wait.Wait()
		if got := ca.count(); got != 1 {
			t.Errorf("issuer was called %d times for one identity, want 1", got)
		}
	})
}

func TestCallsInParallelAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newAuthority(t, "root", nil)
		gate := make(chan struct{})
		ca.set(func(a *authority) { a.block = gate })
		s := NewSource(ca, SourceOptions{Parallel: 3})
		defer s.Close()
		for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
			s.Prefetch(mesh.Identity{TrustDomain: "cluster.local", Namespace: "n", ServiceAccount: name})
		}
		synctest.Wait()
		if got := ca.count(); got != 3 {
			t.Errorf("%d calls at once, want 3", got)
		}
		close(gate)
		synctest.Wait()
		if got := ca.count(); got != 6 {
			t.Errorf("%d calls in the end, want 6", got)
		}
	})
}

func TestRenewalAtHalfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newAuthority(t, "root", nil)
		s := NewSource(ca, SourceOptions{})
		defer s.Close()
		first, err := s.Certificate(t.Context(), cart)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Hour) // half-life is 12 h, jitter a tenth of it
		synctest.Wait()
		if got := ca.count(); got != 1 {
			t.Fatalf("renewed %d times before 10 of 24 h, want none", got-1)
		}
		time.Sleep(4 * time.Hour)
		synctest.Wait()
		second, err := s.Certificate(t.Context(), cart)
		if err != nil {
			t.Fatal(err)
		}
		if ca.count() != 2 || !second.NotAfter.After(first.NotAfter) {
			t.Errorf("after 14 of 24 h: %d calls, NotAfter %v then %v", ca.count(), first.NotAfter, second.NotAfter)
		}
	})
}

func TestFailuresBackOffAndTheOldCertificateServes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newAuthority(t, "root", nil)
		s := NewSource(ca, SourceOptions{})
		defer s.Close()
		if _, err := s.Certificate(t.Context(), cart); err != nil {
			t.Fatal(err)
		}
		refused := errors.New("refused")
		ca.set(func(a *authority) { a.fail = refused })
		time.Sleep(23 * time.Hour)
		if _, err := s.Certificate(t.Context(), cart); err != nil {
			t.Errorf("with an hour left: %v", err)
		}
		// From about 12 h on: 1+2+4+…+128 s, then 150 s each. 11 h give about 270 attempts.
		if got := ca.count(); got < 200 || got > 330 {
			t.Errorf("%d attempts in 11 h of failure, want about 270", got)
		}
		time.Sleep(2 * time.Hour)
		_, err := s.Certificate(t.Context(), cart)
		if issue, ok := errors.AsType[*IssueError](err); !ok || !errors.Is(err, refused) || issue.Identity != cart.String() {
			t.Errorf("expired, issuer refuses: %v", err)
		}
		ca.set(func(a *authority) { a.fail = nil })
		time.Sleep(200 * time.Second)
		if _, err := s.Certificate(t.Context(), cart); err != nil {
			t.Errorf("after the issuer recovered: %v", err)
		}
	})
}

func TestFirstFailureIsWaitedForALastingOneIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newAuthority(t, "root", nil)
		ca.set(func(a *authority) { a.fail = errors.New("down") })
		s := NewSource(ca, SourceOptions{})
		defer s.Close()
		s.Prefetch(cart)
		synctest.Wait() // the first attempt failed, the next comes in about 1 s
		ca.set(func(a *authority) { a.fail = nil })
		if _, err := s.Certificate(t.Context(), cart); err != nil {
			t.Errorf("an attempt was due in a second: %v", err)
		}

		ca.set(func(a *authority) { a.fail = errors.New("forbidden") })
		s.Prefetch(till)
		time.Sleep(10 * time.Second) // 1, 2, 4 s of pauses are over, one of 8 s runs
		began := time.Now()
		if _, err := s.Certificate(t.Context(), till); err == nil || !strings.Contains(err.Error(), "forbidden") {
			t.Errorf("lasting failure: %v", err)
		}
		if waited := time.Since(began); waited > 3*time.Second {
			t.Errorf("a lasting failure was told after %v", waited)
		}
	})
}

func TestWaitIsBoundedByItsContextAndClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newAuthority(t, "root", nil)
		ca.set(func(a *authority) { a.block = make(chan struct{}) })
		s := NewSource(ca, SourceOptions{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Certificate(ctx, cart); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after the deadline: %v", err)
		}
		go func() {
			time.Sleep(time.Second)
			s.Close()
		}()
		if _, err := s.Certificate(t.Context(), cart); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed while waiting: %v", err)
		}
		if _, err := s.Certificate(t.Context(), till); !errors.Is(err, net.ErrClosed) {
			t.Errorf("after close: %v", err)
		}
		s.Prefetch(till) // does nothing
	})
}

func TestDropForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newAuthority(t, "root", nil)
		s := NewSource(ca, SourceOptions{})
		defer s.Close()
		s.Prefetch(cart)
		synctest.Wait()
		s.Drop(cart)
		s.Drop(till) // never held
		time.Sleep(48 * time.Hour)
		if got := ca.count(); got != 1 {
			t.Errorf("%d calls, a dropped identity was renewed", got)
		}
		if _, err := s.Certificate(t.Context(), cart); err != nil || ca.count() != 2 {
			t.Errorf("asked again: %v after %d calls", err, ca.count())
		}
	})
}

func TestRequestIsWhatTheWireWants(t *testing.T) {
	_, text, err := newRequest(cart)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if len(csr.URIs) != 1 || csr.URIs[0].String() != cart.String() {
		t.Errorf("URIs %v", csr.URIs)
	}
	if i := slices.IndexFunc(csr.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(subjectAltName) }); i < 0 || !csr.Extensions[i].Critical {
		t.Error("subject alternative name is not critical")
	}
	if len(csr.Subject.Names) != 0 || csr.SignatureAlgorithm != x509.ECDSAWithSHA256 {
		t.Errorf("subject %v, signature %v", csr.Subject, csr.SignatureAlgorithm)
	}
}

// liar answers whatever a test wants.
type liar func(id mesh.Identity, csrPEM []byte) ([]string, error)

func (l liar) Issue(_ context.Context, id mesh.Identity, csrPEM []byte) ([]string, error) {
	return l(id, csrPEM)
}

func TestBadAnswersAreRefused(t *testing.T) {
	ca, other := newAuthority(t, "root", nil), newAuthority(t, "other", nil)
	honest := func(csrPEM []byte) []string {
		chain, err := ca.Issue(t.Context(), cart, csrPEM)
		if err != nil {
			t.Fatal(err)
		}
		return chain
	}
	for _, tc := range []struct {
		name   string
		answer liar
		want   string
	}{
		{"nothing", func(mesh.Identity, []byte) ([]string, error) { return nil, nil }, "want a leaf and a root"},
		{"no root", func(_ mesh.Identity, csr []byte) ([]string, error) { return honest(csr)[:1], nil }, "want a leaf and a root"},
		{"empty root", func(_ mesh.Identity, csr []byte) ([]string, error) { return []string{honest(csr)[0], ""}, nil }, "root bundle"},
		{"garbage leaf", func(_ mesh.Identity, csr []byte) ([]string, error) { return []string{"x", ca.pem()}, nil }, "no certificate"},
		{"key in the chain", func(_ mesh.Identity, csr []byte) ([]string, error) {
			return []string{"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", ca.pem()}, nil
		}, "PRIVATE KEY"},
		{"root of another", func(_ mesh.Identity, csr []byte) ([]string, error) { return []string{honest(csr)[0], other.pem()}, nil }, "its own roots"},
		{"another identity", func(_ mesh.Identity, csr []byte) ([]string, error) {
			ca.set(func(a *authority) {
				a.change = func(c *x509.Certificate) {
					c.URIs = []*url.URL{{Scheme: "spiffe", Host: "cluster.local", Path: "/ns/shop/sa/till"}}
				}
			})
			defer ca.set(func(a *authority) { a.change = nil })
			return honest(csr), nil
		}, "leaf is for spiffe://cluster.local/ns/shop/sa/till"},
		{"another key", func(mesh.Identity, []byte) ([]string, error) {
			_, csr, err := newRequest(cart)
			if err != nil {
				return nil, err
			}
			return honest(csr), nil
		}, "another key"},
		{"expired", func(_ mesh.Identity, csr []byte) ([]string, error) {
			ca.set(func(a *authority) { a.ttl = -time.Second })
			defer ca.set(func(a *authority) { a.ttl = time.Hour })
			return honest(csr), nil
		}, "expired"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := NewSource(tc.answer, SourceOptions{})
			defer s.Close()
			if _, err := s.Certificate(t.Context(), cart); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}

func FuzzIssuerAnswer(f *testing.F) {
	key, csr, err := newRequest(cart)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(csr), string(csr))
	f.Add("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "")
	f.Fuzz(func(t *testing.T, leaf, root string) {
		if cert, err := newCertificate(cart, key, []string{leaf, root}); err == nil {
			t.Fatalf("believed %v, which nobody signed", cert)
		}
	})
}
