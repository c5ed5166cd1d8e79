// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// Reasons in the counter of refusals.
const (
	refusedMalformed = "malformed" // no honest API server could have stored it
	refusedPods      = "address"   // a pod claims an address that is not its own
	refusedCIDRs     = "cidr"      // a pod on a network of ours is at an address at which the cluster may have none
	refusedDoors     = "gateway"   // a Gateway claims an address, or is in a namespace, that it must not
	refusedNetworks  = "network"   // a pod claims to be on a network on which the cluster may have none
	refusedScopes    = "scope"     // a ServiceScope comes after those that are asked of one cluster
	refusedAccounts  = "accounts"  // a service has pods of more service accounts than are asked
	refusedLimits    = "limits"    // import limits leave it out
	refusedAddresses = "addresses" // a service that exists there only finds no address left for it
	refusedHaste     = "haste"     // one waits for an address, because the cluster's changes took too much writing
	refusedIdentity  = "identity"  // it says to be this cluster, or one that another id speaks for
)

// remoteMetrics count what is refused of remote clusters. They work without a registerer too.
type remoteMetrics struct {
	refused *prometheus.CounterVec

	mu   sync.Mutex
	last map[world.Cluster]translate.RemoteCount // as last translated
}

func newRemoteMetrics(r prometheus.Registerer) *remoteMetrics {
	m := &remoteMetrics{refused: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "isthmus_remote_refused_total",
		Help: "Claims of remote clusters that were refused: malformed objects, addresses, networks and identities that are not theirs, what import limits leave out, and services for which no address is left, or not yet.",
	}, []string{"cluster", "reason"}), last: map[world.Cluster]translate.RemoteCount{}}
	if r != nil {
		r.MustRegister(m.refused)
	}
	return m
}

func (m *remoteMetrics) add(c world.Cluster, reason string, n int) {
	if n > 0 {
		m.refused.WithLabelValues(string(c), reason).Add(float64(n))
	}
}

// translated counts what is refused now and was not before; count is nil if nothing is known of the cluster any more.
func (m *remoteMetrics) translated(c world.Cluster, count *translate.RemoteCount) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if count == nil {
		delete(m.last, c)
		return
	}
	before := m.last[c]
	m.last[c] = *count
	m.add(c, refusedPods, count.RefusedPods-before.RefusedPods)
	m.add(c, refusedCIDRs, count.Astray-before.Astray)
	doors := func(r translate.RemoteCount) int {
		return r.RefusedDoors + r.UnpermittedDoors + r.CrowdedDoors + r.TakenDoors
	}
	m.add(c, refusedDoors, doors(*count)-doors(before))
	m.add(c, refusedAccounts, count.Scattered-before.Scattered)
	m.add(c, refusedScopes, count.RefusedScopes-before.RefusedScopes)
	m.add(c, refusedNetworks, count.RefusedNetworks-before.RefusedNetworks)
	m.add(c, refusedLimits, count.LeftOut+count.Strangers-before.LeftOut-before.Strangers)
}

// forget drops the counters of a cluster that is no longer read.
func (m *remoteMetrics) forget(c world.Cluster) {
	m.refused.DeletePartialMatch(prometheus.Labels{"cluster": string(c)})
}
