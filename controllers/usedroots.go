// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/ca"
)

const (
	// usedRootsName is the Secret that remembers below which roots certificates were issued, and which revocation lists count. It holds nothing secret, but whoever could write it could have a root
	// trusted.
	usedRootsName = "isthmus-used-roots"
	// removeRootsAnnotation with removeRootsNow, on a Secret of the authority, has roots go that are not in it, whatever they vouch for.
	removeRootsAnnotation, removeRootsNow = "isthmus.dev/remove-roots", "now"
	// rootSlack is for how long a replica may go on issuing below a root after the first one saw that the issuer is another.
	rootSlack = 10 * time.Minute
	// maxUsedRoots bounds what is remembered: an authority whose root changes every hour is kept whole for a day.
	maxUsedRoots = 32
)

// usedRoot is one root below which certificates were issued here.
type usedRoot struct {
	// Certificate is in PEM.
	Certificate string `json:"certificate"`
	// Longest is how many seconds a certificate issued below it may have lasted at most.
	Longest int64 `json:"longestSeconds"`
	// Until is when the last of those certificates has ended; nil while they are issued.
	Until *time.Time `json:"until,omitempty"`
	// Revoked are the revocation lists that count below it, in DER.
	Revoked [][]byte `json:"revoked,omitempty"`

	parsed *x509.Certificate
}

// usedRoots are by a hash of their certificate.
type usedRoots map[string]usedRoot

// decodeUsedRoots reads what encode gave. What is no such thing is left out; of what is said twice of a root, that which keeps it longer counts.
func decodeUsedRoots(data map[string][]byte) usedRoots {
	out := usedRoots{}
	for _, text := range data {
		var u usedRoot
		if json.Unmarshal(text, &u) != nil || u.Longest < 0 || u.Longest > int64(ca.MaxLifetime/time.Second) {
			continue
		}
		block, _ := pem.Decode([]byte(u.Certificate))
		if block == nil {
			continue
		}
		var err error
		if u.parsed, err = x509.ParseCertificate(block.Bytes); err != nil || !u.parsed.IsCA {
			continue
		}
		u.Certificate = certificateText(u.parsed)
		u.Revoked = slices.DeleteFunc(u.Revoked, func(der []byte) bool { _, err := x509.ParseRevocationList(der); return err != nil })
		key := ca.RootName(u.parsed)
		if before, twice := out[key]; twice {
			u.Longest = max(u.Longest, before.Longest)
			if u.Until != nil && (before.Until == nil || before.Until.After(*u.Until)) {
				u.Until = before.Until
			}
			u.Revoked = union(before.Revoked, u.Revoked)
		}
		out[key] = u
	}
	return out
}

func certificateText(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

func (r usedRoots) encode() map[string][]byte {
	data := map[string][]byte{}
	for key, u := range r {
		text, err := json.Marshal(u)
		if err != nil {
			panic(err) // strings, numbers and times of our own always have a form
		}
		data[key] = text
	}
	return data
}

// issuing is what is remembered when a signer issues certificates that last so long at most. Nil is that nobody ever remembered any: then a version of ours that did not, which may have
// been set otherwise, may have issued below the same root whatever can be issued. With forget, roots that the signer does not trust are forgotten.
func (r usedRoots) issuing(by *ca.Signer, longest time.Duration, now time.Time, forget bool) usedRoots {
	out, top := usedRoots{}, by.Top()
	for key, u := range r {
		if u.parsed.Equal(top) || forget && !by.Trusts(u.parsed) {
			continue
		}
		if u.Until == nil {
			at := now.Add(time.Duration(u.Longest)*time.Second + rootSlack).UTC().Truncate(time.Second)
			u.Until = &at
		}
		if now.Before(*u.Until) && now.Before(u.parsed.NotAfter) {
			out[key] = u
		}
	}
	if beyond := len(out) - (maxUsedRoots - 1); beyond > 0 { // one place is the signer's
		first := slices.SortedFunc(maps.Keys(out), func(a, b string) int { return cmp.Or(out[a].Until.Compare(*out[b].Until), cmp.Compare(a, b)) })
		for _, key := range first[:beyond] {
			delete(out, key)
		}
	}
	if r == nil {
		longest = ca.MaxLifetime
	}
	was := r[ca.RootName(top)]
	seconds := max(was.Longest, int64(longest/time.Second))
	out[ca.RootName(top)] = usedRoot{Certificate: certificateText(top), Longest: seconds, Revoked: was.Revoked, parsed: top}
	return out
}

// missing are those that a signer does not trust, and that vouch for certificates which may be in use; the one that is needed longest last.
func (r usedRoots) missing(by *ca.Signer) []usedRoot {
	var out []usedRoot
	for _, u := range r {
		if u.Until != nil && !by.Trusts(u.parsed) {
			out = append(out, u)
		}
	}
	slices.SortFunc(out, func(a, b usedRoot) int {
		return cmp.Or(a.Until.Compare(*b.Until), cmp.Compare(a.Certificate, b.Certificate))
	})
	return out
}

// newUsedUntil is the metric of what is remembered: an operator who rotates a root sees there, over restarts and replicas, when no certificate below the old one lives on.
func newUsedUntil() *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "isthmus_ca_root_used_until_timestamp_seconds",
		Help: "When the last certificate that was issued in this cluster below a root has ended; +Inf while they are issued.",
	}, []string{"root"})
}

// showUsed brings the metric up to date.
func (a *Authority) showUsed(used usedRoots) {
	a.used.Reset()
	for name, u := range used {
		until := math.Inf(1)
		if u.Until != nil {
			until = float64(u.Until.Unix())
		}
		a.used.WithLabelValues(name).Set(until)
	}
}

// describeRoots says for how long which roots are needed.
func describeRoots(roots []usedRoot) string {
	parts := make([]string, 0, len(roots))
	for _, u := range roots {
		parts = append(parts, fmt.Sprintf("%q (serial number %x) until %s", u.parsed.Subject, u.parsed.SerialNumber, u.Until.UTC().Format(time.RFC3339)))
	}
	return strings.Join(parts, ", ")
}
