// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// signedTick is how exactly it is known when a leaf ends; it counts as alive until the tick is over.
	signedTick = 10 * time.Minute
	// maxSignedTicks bounds what is kept of a root: one number for each tick in which a leaf may end, from now to MaxLifetime, and those that are over and not yet forgotten.
	maxSignedTicks = 2 * int(MaxLifetime/signedTick)
	// maxSignedRoots bounds the roots that are told apart. Of more, the one goes whose leaves ended, or will end, first.
	maxSignedRoots = 32
)

// RootName names a root in metrics and Secrets: the first 32 digits of its SHA-256 fingerprint.
func RootName(root *x509.Certificate) string {
	sum := sha256.Sum256(root.Raw)
	return hex.EncodeToString(sum[:16])
}

// signed counts leaves by the root that their chain leads to, and knows how many of them have not ended. It forgets with the process.
type signed struct {
	now                func() time.Time
	total, alive, ends *prometheus.Desc

	mu    sync.Mutex
	roots map[string]*signedBelow // by RootName
}

// signedBelow are the leaves of one root.
type signedBelow struct {
	total int
	ends  map[int64]int // tick → leaves that end in it
	last  int64         // tick in which the last one ends
}

func newSigned(now func() time.Time) *signed {
	describe := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, []string{"root"}, nil)
	}
	return &signed{
		now: now, roots: map[string]*signedBelow{},
		total: describe("isthmus_ca_leaves_signed_total", "Certificates of workloads that this process signed, by the root that they lead to."),
		alive: describe("isthmus_ca_leaves_alive", "Those of them that have not ended."),
		ends:  describe("isthmus_ca_leaves_end_timestamp_seconds", "When the last of them ends, or ended."),
	}
}

func tickOf(t time.Time) int64 { return t.Unix() / int64(signedTick/time.Second) }

// add notes a leaf that was signed.
func (s *signed) add(root *x509.Certificate, ends time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name, tick := RootName(root), tickOf(ends)
	below := s.roots[name]
	if below == nil {
		if len(s.roots) == maxSignedRoots {
			s.forgetOne()
		}
		below = &signedBelow{ends: map[int64]int{}}
		s.roots[name] = below
	}
	below.total++
	below.ends[tick]++
	below.last = max(below.last, tick)
	if len(below.ends) > maxSignedTicks {
		below.living(tickOf(s.now()))
	}
}

// forgetOne needs mu.
func (s *signed) forgetOne() {
	first := ""
	for name, below := range s.roots {
		if first == "" || below.last < s.roots[first].last {
			first = name
		}
	}
	delete(s.roots, first)
}

// living counts the leaves that end now or later, and forgets the others.
func (b *signedBelow) living(now int64) int {
	sum := 0
	for tick, leaves := range b.ends {
		if tick < now {
			delete(b.ends, tick)
		} else {
			sum += leaves
		}
	}
	return sum
}

// Describe implements prometheus.Collector.
func (s *signed) Describe(out chan<- *prometheus.Desc) {
	out <- s.total
	out <- s.alive
	out <- s.ends
}

// Collect implements prometheus.Collector.
func (s *signed) Collect(out chan<- prometheus.Metric) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := tickOf(s.now())
	for name, below := range s.roots {
		over := time.Unix((below.last+1)*int64(signedTick/time.Second), 0)
		out <- prometheus.MustNewConstMetric(s.total, prometheus.CounterValue, float64(below.total), name)
		out <- prometheus.MustNewConstMetric(s.alive, prometheus.GaugeValue, float64(below.living(now)), name)
		out <- prometheus.MustNewConstMetric(s.ends, prometheus.GaugeValue, float64(over.Unix()), name)
	}
}
