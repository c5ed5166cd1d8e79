// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

const (
	// vipTTL is how long clients may keep the address of a service, in seconds (ztunnel's value). Such an address lives as long as the
	// service does.
	vipTTL = 30
	// podTTL is the same for addresses of pods, which come and go (CoreDNS's value for all that it answers).
	podTTL = 5
)

// Client is who asks.
type Client struct {
	// Network is the proxy's own: only addresses in it are of use to the client.
	Network string
	// Cluster is the proxy's own: its pods come first where pods of two clusters in one network have the same name.
	Cluster string
	// Namespace is the pod's.
	Namespace string
	// Domain is the cluster's, without a dot at the end, such as "cluster.local".
	Domain string
}

// Found says what the directory knows of a name.
type Found uint8

const (
	// Unknown names are for somebody else to answer.
	Unknown Found = iota
	// Exists is a name of ours for which we have no address for this client. Somebody else may have one; that there is no such name would
	// be untrue.
	Exists
	// Known names are answered by us.
	Known
)

// Answer is what the mesh knows of a name.
type Answer struct {
	// Hostname is the name without a dot at the end. If it differs from the name asked, a search domain was taken off.
	Hostname string
	// Addresses are all that the client may use, of both families.
	Addresses []netip.Addr
	// Targets are where a named port is found.
	Targets []Target
	// Pointer is the name of which Hostname is the reverse.
	Pointer string
	// TTL is how long the answer may be kept, in seconds.
	TTL uint32
	// Partial names may have records with others beside the ones that we know: they are not of the cluster's domain.
	Partial bool
}

// Resolve looks a name up as the client would see it; name may end in a dot and be in any case. The answer is the caller's own.
func Resolve(v *directory.View, c Client, name string) (Answer, Found) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if a, found := c.reverse(v, name); found != Unknown {
		return a, found
	}
	for i, candidate := range c.candidates(name) {
		switch a, found := c.lookUp(v, candidate); {
		case found == Exists && i > 0:
			// The name with the search domain does not exist, and the resolver must learn that to go on to the one without.
			return Answer{}, Unknown
		case found != Unknown:
			return a, found
		}
	}
	return Answer{}, Unknown
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

// lookUp finds a complete name.
func (c Client) lookUp(v *directory.View, name string) (Answer, Found) {
	a := Answer{Hostname: name, TTL: vipTTL, Partial: !c.ours(name)}
	s := v.ServiceNamed(name, c.Namespace)
	if s == nil && a.Partial {
		s = c.wildcard(v, name)
	}
	if s == nil {
		if strings.HasPrefix(name, "_") {
			return c.namedPort(v, name)
		}
		return c.pod(v, name)
	}
	if len(s.Addresses) > 0 {
		a.Addresses = c.vips(s)
	} else {
		a.TTL = podTTL
		for _, w := range c.endpoints(v, s) {
			a.Addresses = append(a.Addresses, podAddresses(w, s)...)
		}
		a.Addresses = distinct(a.Addresses)
	}
	switch {
	case len(a.Addresses) > 0:
		return a, Known
	case a.Partial:
		return Answer{}, Unknown
	}
	return Answer{}, Exists
}

// ours says whether a name is of the cluster's domain, in which nobody else has records.
func (c Client) ours(name string) bool { return strings.HasSuffix(name, "."+c.Domain) }

// wildcard finds a service that has all names below one, the longest first.
func (c Client) wildcard(v *directory.View, name string) *mesh.Service {
	for {
		_, parent, ok := strings.Cut(name, ".")
		if !ok {
			return nil
		}
		if s := v.ServiceNamed("*."+parent, c.Namespace); s != nil {
			return s
		}
		name = parent
	}
}

// vips are the service's addresses in the client's network.
func (c Client) vips(s *mesh.Service) []netip.Addr {
	var out []netip.Addr
	for _, vip := range s.Addresses {
		if vip.Network == c.Network {
			out = append(out, vip.Addr.Unmap())
		}
	}
	return out
}

// endpoints are those of the service that the client may be told of: with addresses in its network, and ready.
func (c Client) endpoints(v *directory.View, s *mesh.Service) []*mesh.Workload {
	var out []*mesh.Workload
	for _, w := range v.Endpoints(s.Key()) {
		if w.Network == c.Network && len(w.Addresses) > 0 && (!w.Unhealthy || s.Balance.AllowUnhealthy) {
			out = append(out, w)
		}
	}
	return out
}

// podAddresses are those of a service's endpoint, of the families that the service has.
func podAddresses(w *mesh.Workload, s *mesh.Service) []netip.Addr {
	var out []netip.Addr
	for _, addr := range w.Addresses {
		addr = addr.Unmap()
		if s.Families == mesh.FamiliesIPv4 && !addr.Is4() || s.Families == mesh.FamiliesIPv6 && !addr.Is6() {
			continue
		}
		out = append(out, addr)
	}
	return out
}

// distinct sorts, and leaves out what is there twice: pods on the host network share addresses.
func distinct(all []netip.Addr) []netip.Addr {
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}
