// SPDX-License-Identifier: Apache-2.0

package mtls

import (
	"crypto/x509"
	"slices"
	"strings"
	"time"
)

// Trust says by what the peers of a trust domain are believed.
type Trust struct {
	TrustDomain string
	// AliasOf is the domain that this one is another name of, or empty.
	AliasOf string
	// Told says that it came by SetBundle, and not with a certificate.
	Told  bool
	Roots []*x509.Certificate
	// Revoked is how many certificates the domain's lists name, and Lists when each list is to be followed by another one.
	Revoked int
	Lists   []time.Time
}

// Trusts tells of all trust domains, by their names.
func (s *Source) Trusts() []Trust {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := map[string]struct{}{}
	for name := range s.told {
		names[name] = struct{}{}
	}
	for name := range s.bundles {
		names[name] = struct{}{}
	}
	for name := range s.aliases {
		names[name] = struct{}{}
	}
	var out []Trust
	for name := range names {
		_, told := s.told[name]
		one := Trust{TrustDomain: name, AliasOf: s.aliases[name], Told: told}
		if t := s.trustOf(name); t != nil {
			one.Roots = t.roots.X509Authorities()
			if t.revoked != nil {
				for _, lists := range t.revoked.byIssuer {
					for _, l := range lists {
						one.Revoked += len(l.when)
						one.Lists = append(one.Lists, l.list.NextUpdate)
					}
				}
			}
		}
		out = append(out, one)
	}
	slices.SortFunc(out, func(a, b Trust) int { return strings.Compare(a.TrustDomain, b.TrustDomain) })
	return out
}
