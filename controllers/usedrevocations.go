// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"maps"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/internal/ca"
)

const (
	// maxUsedLists is how many bytes of revocation lists are remembered: in base64, as those of roots are, they take 683 KiB of the 1 MiB that a Secret holds. Those beyond count for as long as the process lives.
	maxUsedLists = 512 << 10
	// usedListPrefix begins the names of lists in the Secret of used roots that are of none of its roots.
	usedListPrefix = "list-"
)

// usedListName names such a list.
func usedListName(der []byte) string {
	sum := sha256.Sum256(der)
	return usedListPrefix + hex.EncodeToString(sum[:16])
}

// decodeUsedLists reads those that the Secret holds. What is no list is left out.
func decodeUsedLists(data map[string][]byte) [][]byte {
	var out [][]byte
	for _, name := range slices.Sorted(maps.Keys(data)) {
		if !strings.HasPrefix(name, usedListPrefix) {
			continue
		}
		if _, err := x509.ParseRevocationList(data[name]); err == nil {
			out = append(out, data[name])
		}
	}
	return out
}

// revoking remembers the lists that count by now: with a root those below it, for they go with it, and by themselves all others, as those of a root that is trusted and that nothing was issued
// below here. Those of a root whose Secret is another's by now are still told by it: of some of them the signer is not known any more.
func (m *remembered) revoking(by *ca.Signer) {
	counts, left := by.RevokedDER(), maxUsedLists
	fits := func(der []byte) bool {
		if len(der) > left {
			return false
		}
		left -= len(der)
		return true
	}
	was := m.below
	m.below = map[string][][]byte{}
	var below [][]byte
	for _, name := range slices.Sorted(maps.Keys(m.roots)) {
		u := m.roots[name]
		lists := union(union(by.RevokedBelow(u.parsed), u.Revoked), was[name])
		lists = slices.DeleteFunc(lists, func(der []byte) bool { return !holds(counts, der) })
		slices.SortFunc(lists, bytes.Compare) // as the other replicas do, which may have heard of them in another order
		m.below[name] = lists
		u.Revoked = slices.DeleteFunc(slices.Clone(lists), func(der []byte) bool { return !fits(der) })
		m.roots[name] = u
		below = union(below, u.Revoked)
	}
	m.lists = slices.DeleteFunc(counts, func(der []byte) bool { return holds(below, der) || !fits(der) })
}

// newListsRefused is the metric of revocation lists that came with the authority and do not count.
func newListsRefused() prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "isthmus_ca_revocations_refused",
		Help: "Whether revocation lists of the authority's Secret do not count (1), so that those before do.",
	})
}

// revoke is a signer with the revocation lists that count, which are remembered, and an Event about those that do not, once. kept are the roots that it trusts and its Secret does not hold.
func (a *Authority) revoke(name string, signer *ca.Signer, file []byte, m *remembered, kept []usedRoot) *ca.Signer {
	var stay [][]byte
	for _, u := range kept {
		stay = union(union(stay, u.Revoked), m.below[ca.RootName(u.parsed)])
		if was := a.Signer(); was != nil {
			stay = union(stay, was.RevokedBelow(u.parsed))
		}
	}
	return a.revokeBy(name, signer, file, stay, a.countedBefore(m), m)
}

// countedBefore are the lists that counted here, and those that are remembered, which may be of a change that only other replicas saw.
func (a *Authority) countedBefore(m *remembered) [][]byte {
	if was := a.Signer(); was != nil {
		return union(was.RevokedDER(), m.held)
	}
	return m.held
}

// revokeBeside has the lists of a Secret count whose authority cannot be used: whoever was revoked shall not be believed until somebody finds the right key. What counted before goes on to, but for lists of which the file has a
// later edition: that it has no more may be of what is wrong with the Secret.
func (a *Authority) revokeBeside(ctx context.Context, name string, file []byte) error {
	was := a.Signer()
	if was == nil {
		return nil
	}
	m, err := a.recall(ctx)
	if err != nil {
		return err
	}
	signer := a.revokeBy(name, was, file, a.countedBefore(&m), nil, &m)
	if !slices.EqualFunc(signer.RevokedDER(), was.RevokedDER(), bytes.Equal) {
		a.signer.Store(signer)
		a.files = maps.Clone(a.files)
		a.files[ca.RevokedKey] = signer.RevokedPEM()
		a.log.Info("revocation lists count of an authority that cannot be used", "secret", name)
		a.changed()
	}
	if m.secret.ResourceVersion == "" {
		return nil // it was deleted, so as to begin anew
	}
	return a.remember(ctx, m)
}

// revokeBy is a signer with the lists that count of its file, of those that stay and, if the file is not in order, of those before.
func (a *Authority) revokeBy(name string, signer *ca.Signer, file []byte, stay, before [][]byte, m *remembered) *ca.Signer {
	signer, err := signer.Revoking(file, stay, before)
	m.revoking(signer)
	a.below = m.below
	if err == nil {
		a.listsRefused.Set(0)
		a.unrevoked = ""
		return signer
	}
	a.listsRefused.Set(1)
	if said := strings.ReplaceAll(err.Error(), "\n", "; "); said != a.unrevoked {
		a.unrevoked = said
		a.log.Info("revocation lists of the authority do not count, and those before do", "secret", name, "reason", said)
		a.tell(name, corev1.EventTypeWarning, "RevocationRefused", "%s", note("Revocation lists do not count, so that those which counted before go on to; the authority is in use all the same: %s", said))
	}
	return signer
}
