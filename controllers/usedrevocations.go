// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"bytes"
	"maps"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/internal/ca"
)

// maxUsedLists is how many bytes of revocation lists are remembered: in base64 they take 683 KiB of the 1 MiB that a Secret holds. Those beyond count for as long as the process lives.
const maxUsedLists = 512 << 10

// revoking remembers the lists that count by now. Those of a root whose Secret is another's by now are still told by it: of some of them the signer is not known any more.
func (r usedRoots) revoking(by *ca.Signer) {
	counts, left := by.RevokedDER(), maxUsedLists
	for _, name := range slices.Sorted(maps.Keys(r)) {
		u := r[name]
		lists := union(by.RevokedBelow(u.parsed), u.Revoked)
		u.Revoked = slices.DeleteFunc(lists, func(der []byte) bool {
			if len(der) > left || !slices.ContainsFunc(counts, func(c []byte) bool { return bytes.Equal(c, der) }) {
				return true
			}
			left -= len(der)
			return false
		})
		r[name] = u
	}
}

// newListsRefused is the metric of revocation lists that came with the authority and do not count.
func newListsRefused() prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "isthmus_ca_revocations_refused",
		Help: "Whether revocation lists of the authority's Secret do not count (1), so that those before do.",
	})
}

// revoke is a signer with the revocation lists that count, and an Event about those that do not, once. kept are the roots that it trusts and its Secret does not hold.
func (a *Authority) revoke(name string, signer *ca.Signer, file []byte, used usedRoots, kept []usedRoot) *ca.Signer {
	was := a.Signer()
	var stay, before [][]byte
	for _, u := range kept {
		stay = union(stay, u.Revoked)
		if was != nil {
			stay = union(stay, was.RevokedBelow(u.parsed))
		}
	}
	if was != nil {
		before = was.RevokedDER()
	} else {
		for _, root := range slices.Sorted(maps.Keys(used)) {
			before = union(before, used[root].Revoked)
		}
	}
	signer, err := signer.Revoking(file, stay, before)
	used.revoking(signer)
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
