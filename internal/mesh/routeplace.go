// SPDX-License-Identifier: Apache-2.0

package mesh

const (
	// hostnameAtListener is about what a gateway takes to find what it knows of one hostname, in bytes: mostly a map of paths, which has room for eight.
	hostnameAtListener = 512
	// matchAtHostname is about what it takes to find a match by its path there, which is kept once wherever it is found.
	matchAtHostname = 128
	// routeAtListener is what it is told: which of the routes.
	routeAtListener = 8
)

// AtListener is about how many bytes a gateway takes, besides the route itself, to find its rules at a listener of a hostname: each match by each hostname that both have in common.
func (r *HTTPRoute) AtListener(hostname string) int {
	return r.AtListeners(1, HostnamesInCommon(hostname, r.Hostnames))
}

// AtListeners is the same for several listeners, with which the route has so many hostnames in common, those with each counted.
func (r *HTTPRoute) AtListeners(listeners, common int) int {
	return listeners*routeAtListener + common*(hostnameAtListener+matchAtHostname*r.Matches())
}

// HostnamesInCommon is how many of a route's hostnames meet a listener's; one, if the route has none.
func HostnamesInCommon(listener string, route []string) int {
	if len(route) == 0 {
		return 1
	}
	n := 0
	for _, name := range route {
		if HostnamesMeet(listener, name) {
			n++
		}
	}
	return n
}

// Matches is how many its rules have together.
func (r *HTTPRoute) Matches() int {
	n := 0
	for i := range r.Rules {
		n += len(r.Rules[i].Matches)
	}
	return n
}
