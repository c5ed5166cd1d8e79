// SPDX-License-Identifier: Apache-2.0

package mtls

import (
	"errors"
	"io/fs"
	"time"

	"github.com/go-logr/logr"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// recall gives an entry the certificate that an earlier process kept for it. The issuer is asked all the same, and its answer replaces it: this only bridges
// the time until then.
func (s *Source) recall(e *entry, log logr.Logger) {
	cert, err := s.o.Vault.load(e.id)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if s.o.OnKept != nil {
		s.o.OnKept(err)
	}
	if err != nil {
		log.Info("kept certificate is not used", "reason", err.Error())
		return
	}
	log.Info("kept certificate is used until there is another", "notAfter", cert.NotAfter)
	s.mu.Lock()
	if _, known := s.bundles[e.id.TrustDomain]; !known {
		s.bundles[e.id.TrustDomain] = domainBundle{trust: &trust{roots: cert.bundle}} // older than what any call brings
	}
	s.mu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.cert = cert
	close(e.settled) // whoever waits for the issuer need not
	e.settled = make(chan struct{})
}

// remember keeps a certificate for the next process, unless nobody wants it any more.
func (s *Source) remember(e *entry, cert *Certificate, log logr.Logger) {
	s.mu.Lock() // Drop removes it under this lock, and so before or after
	defer s.mu.Unlock()
	if s.entries[e.id] != e {
		return
	}
	if err := s.o.Vault.keep(e.id, cert); err != nil {
		log.Error(err, "certificate is not kept for a restart")
	}
}

// tidy removes what an earlier process kept for identities that are not here any more, once all that are have been asked for.
func (s *Source) tidy() {
	select {
	case <-time.After(vaultForeign):
	case <-s.ctx.Done():
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]mesh.Identity, 0, len(s.entries))
	for id := range s.entries {
		ids = append(ids, id)
	}
	s.o.Vault.retain(ids)
}

// State is what a Source holds for one identity. It never holds a key.
type State struct {
	Identity mesh.Identity
	// Chain are the certificates in DER, the leaf first; none if there is no certificate.
	Chain [][]byte
	// Valid says whether the certificate can be used now.
	Valid    bool
	NotAfter time.Time
	// Err is why the last attempt failed, or nil.
	Err error
	// Refused says that Err is the issuer's word on the identity, and not that it could not be asked, or could not answer.
	Refused bool
	// Next is when the next attempt begins; zero while one is under way.
	Next time.Time
}

// States tells of all identities, in no order.
func (s *Source) States() []State {
	s.mu.Lock()
	entries := make([]*entry, 0, len(s.entries))
	for _, e := range s.entries {
		entries = append(entries, e)
	}
	s.mu.Unlock()
	out := make([]State, 0, len(entries))
	for _, e := range entries {
		out = append(out, e.state())
	}
	return out
}

func (e *entry) state() State {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := State{Identity: e.id, Err: e.err}
	if said, ok := errors.AsType[interface {
		error
		Refused() bool
	}](e.err); ok {
		out.Refused = said.Refused()
	}
	if e.cert != nil {
		out.Chain, out.NotAfter, out.Valid = e.cert.TLS.Certificate, e.cert.NotAfter, time.Now().Before(e.cert.NotAfter)
	}
	select {
	case <-e.settled:
		out.Next = e.next
	default:
	}
	return out
}

// Usable says whether there is a valid certificate for id at this moment. It asks for none.
func (s *Source) Usable(id mesh.Identity) bool {
	s.mu.Lock()
	e := s.entries[id]
	s.mu.Unlock()
	return e != nil && e.state().Valid
}
