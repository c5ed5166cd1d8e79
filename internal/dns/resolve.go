// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"net/netip"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Client is who asks.
type Client struct {
	// Network is the proxy's own: only addresses in it are of use to the client.
	Network string
	// Namespace is the pod's.
	Namespace string
	// Domain is the cluster's, without a dot at the end, such as "cluster.local".
	Domain string
}

// Answer is what the mesh knows of a name.
type Answer struct {
	// Hostname is the service's name, without a dot at the end. If it differs from the name asked, a search domain was taken off.
	Hostname string
	// Addresses are all of the service's for this client, of both families.
	Addresses []netip.Addr
}

// Resolve looks a name up as the client would see it; name may end in a dot and be in any case. It answers false for names that
// somebody else must answer: unknown ones, and services without an address for this client.
func Resolve(v *directory.View, c Client, name string) (Answer, bool) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	for _, candidate := range c.candidates(name) {
		s := v.ServiceNamed(candidate, c.Namespace)
		if s == nil {
			continue
		}
		if addresses := c.addresses(v, s); len(addresses) > 0 {
			return Answer{Hostname: candidate, Addresses: addresses}, true
		}
		return Answer{}, false
	}
	return Answer{}, false
}

// candidates are the names that may have been meant: resolvers append their search domains also to names that are complete.
func (c Client) candidates(name string) []string {
	all := []string{name}
	for _, search := range []string{c.Namespace + ".svc." + c.Domain, "svc." + c.Domain, c.Domain} {
		if bare, ok := strings.CutSuffix(name, "."+search); ok && strings.Contains(bare, ".") {
			all = append(all, bare)
		}
	}
	return all
}

// addresses are the service's VIPs in the client's network; for a headless service, its endpoints' addresses there.
func (c Client) addresses(v *directory.View, s *mesh.Service) []netip.Addr {
	var out []netip.Addr
	for _, vip := range s.Addresses {
		if vip.Network == c.Network {
			out = append(out, vip.Addr.Unmap())
		}
	}
	if len(s.Addresses) > 0 {
		return out
	}
	for _, w := range v.Endpoints(s.Key()) {
		if w.Network != c.Network || w.Unhealthy && !s.Balance.AllowUnhealthy {
			continue
		}
		for _, addr := range w.Addresses {
			out = append(out, addr.Unmap())
		}
	}
	return out
}
