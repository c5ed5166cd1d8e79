// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// imports are what a remote cluster offers and what its limits leave of it.
type imports struct {
	offers    map[serviceName]int // service → pods behind it, all that the limits on names let through
	endpoints int                 // their sum
	out       set[serviceName]    // offers that the limits on counts keep out
	// full says that there were as many services as the limit allows, the last of them named; all offers behind it are out.
	full   bool
	last   serviceName
	limits *world.RemoteCluster // by which out was found
	barred set[serviceName]     // global services that the limit on namespaces keeps out
	// scattered are global services of too many identities, whatever the limits.
	scattered set[serviceName]
}

// maxPlaces is how many service accounts, on each of the networks that pods' labels name, pods behind one service of another cluster may have. Whoever connects is told all of them as the identities
// that the service may prove, so that a cluster could make of a service that is also ours more than proxies take. A service has a few.
const maxPlaces = 256

// isEmpty says that nothing is known of the cluster's services.
func (i *imports) isEmpty() bool { return len(i.offers)+len(i.barred)+len(i.scattered) == 0 }

// knows says whether anything is known of a service.
func (i *imports) knows(n serviceName) bool {
	_, offered := i.offers[n]
	return offered || i.barred.has(n) || i.scattered.has(n)
}

// isScattered says whether the pods behind a service are of more identities than are asked.
func (x *index) isScattered(c world.Cluster, n serviceName) bool {
	m := x.members[n.in(c)]
	return m != nil && len(m.places) > maxPlaces
}

// offer says whether a remote cluster offers a service, and with how many pods.
func (x *index) offer(c world.Cluster, n serviceName) (int, bool) {
	if !x.shared(c, n) || !namespaceAllowed(x.limits[c], n.Namespace) || x.isScattered(c, n) {
		return 0, false
	}
	return x.pods(c, n).all, true
}

// shared says whether a remote cluster has a service that it calls GLOBAL and that could be used from here.
func (x *index) shared(c world.Cluster, n serviceName) bool {
	s := x.state.Services[n.in(c)]
	if c == x.config.LocalCluster || s == nil || !usable(s) {
		return false
	}
	_, known := x.network(c)
	return known && x.decideIn(c, s).verdict == global // the owner decides
}

// places are the pods behind a service in a cluster that its limits let through, by service account and by the network on which they are.
func (x *index) places(c world.Cluster, n serviceName) iter.Seq2[place, tally] {
	return func(yield func(place, tally) bool) {
		m := x.members[n.in(c)]
		own, known := x.network(c)
		if m == nil || !known {
			return
		}
		for p, t := range m.places {
			network, ok := own, true
			if p.network != "" {
				network, ok = x.networkFor(c, p.network)
			}
			if ok && identityAllowed(x.limits[c], n.Namespace, p.account) && !yield(place{p.account, network}, t) {
				return
			}
		}
	}
}

// pods counts them.
func (x *index) pods(c world.Cluster, n serviceName) tally {
	var sum tally
	for _, t := range x.places(c, n) {
		sum.all += t.all
		sum.healthy += t.healthy
	}
	return sum
}

// podsOnNetwork counts those on one network.
func (x *index) podsOnNetwork(c world.Cluster, n serviceName, network string) tally {
	var sum tally
	for p, t := range x.places(c, n) {
		if p.network == network {
			sum.all += t.all
			sum.healthy += t.healthy
		}
	}
	return sum
}

// refreshImports looks again at some offers of a cluster and gives the services whose fate changed for other reasons: because
// the limits on counts now let them in or keep them out.
func (x *index) refreshImports(c world.Cluster, names set[serviceName]) set[serviceName] {
	i := x.imports[c]
	if i == nil {
		i = &imports{offers: map[serviceName]int{}, barred: set[serviceName]{}, scattered: set[serviceName]{}}
		x.imports[c] = i
	}
	// What the counts keep out must be found again if an offer came, went, or has more or fewer pods: but not if it is behind the last
	// that is let in. A cluster that offers far more than it may thus costs no more for each of its changes than another one.
	again := i.limits != x.limits[c]
	i.limits = x.limits[c]
	for n := range names {
		was, offered := i.offers[n]
		i.endpoints -= was
		delete(i.offers, n)
		delete(i.barred, n)
		delete(i.scattered, n)
		pods, offers := x.offer(c, n)
		switch {
		case offers:
			i.offers[n] = pods
			i.endpoints += pods
		case !x.shared(c, n):
		case !namespaceAllowed(x.limits[c], n.Namespace):
			i.barred.add(n)
		default:
			i.scattered.add(n)
		}
		x.refreshStrangers(c, n, offers)
		switch {
		case i.full && compareNames(n, i.last) > 0:
			if offers {
				i.out.add(n)
			} else {
				delete(i.out, n)
			}
		case offered != offers || was != pods:
			again = true
		}
	}
	if !again {
		if i.isEmpty() {
			delete(x.imports, c)
		}
		return nil
	}
	before := i.out
	i.out = i.excess(x.limits[c])
	changed := set[serviceName]{}
	for n := range before {
		if !i.out.has(n) {
			changed.add(n)
		}
	}
	for n := range i.out {
		if !before.has(n) {
			changed.add(n)
		}
	}
	if i.isEmpty() {
		delete(x.imports, c)
	}
	return changed
}

// excess finds what the limits on counts keep out: services are let in by namespace and name until there are enough; one with
// more pods than there is room for is passed over.
func (i *imports) excess(l *world.RemoteCluster) set[serviceName] {
	i.full = false
	most, mostEndpoints := v1alpha1.DefaultMaxServices, v1alpha1.DefaultMaxEndpoints
	if l != nil {
		most, mostEndpoints = l.MaxServices, l.MaxEndpoints
	}
	if len(i.offers) <= most && i.endpoints <= mostEndpoints {
		return nil
	}
	out := set[serviceName]{}
	services, endpoints := 0, 0
	i.full, i.last = most == 0, serviceName{} // every name is behind the empty one
	for _, n := range slices.SortedFunc(maps.Keys(i.offers), compareNames) {
		if services == most || endpoints+i.offers[n] > mostEndpoints {
			out.add(n)
			continue
		}
		services++
		endpoints += i.offers[n]
		if services == most {
			i.full, i.last = true, n
		}
	}
	return out
}

// offered says whether a remote cluster offers a service and the limits let it in.
func (x *index) offered(c world.Cluster, n serviceName) bool {
	i := x.imports[c]
	if i == nil {
		return false
	}
	_, ok := i.offers[n]
	return ok && !i.out.has(n)
}

func namespaceAllowed(l *world.RemoteCluster, namespace string) bool {
	return l == nil || len(l.Namespaces) == 0 || slices.Contains(l.Namespaces, namespace)
}

func identityAllowed(l *world.RemoteCluster, namespace, account string) bool {
	if l == nil || len(l.Identities) == 0 {
		return true
	}
	return slices.ContainsFunc(l.Identities, func(pattern string) bool {
		ns, sa, _ := strings.Cut(pattern, "/")
		return (ns == "*" || ns == namespace) && (sa == "*" || sa == account)
	})
}
