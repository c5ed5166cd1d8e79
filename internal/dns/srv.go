// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"net/netip"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Target is where a named port is found.
type Target struct {
	// Host is a name without a dot at the end that Resolve knows, too.
	Host      string
	Port      uint16
	Addresses []netip.Addr
}

// namedPort finds "_port._tcp.service.namespace.svc.domain": the service's own port, or of a headless service one of each ready pod
// (RFC 2782). Ports without a name, and services from a control plane that tells no names, are for the cluster's own server.
func (c Client) namedPort(v *directory.View, name string) (Answer, Found) {
	port, rest, _ := strings.Cut(name, ".")
	protocol, host, ok := strings.Cut(rest, ".")
	port, named := strings.CutPrefix(port, "_")
	if !ok || !named || port == "" || protocol != "_tcp" || !c.ours(host) {
		return Answer{}, Unknown
	}
	s := v.ServiceNamed(host, c.Namespace)
	if s == nil {
		return Answer{}, Unknown
	}
	a := Answer{Hostname: name, TTL: vipTTL}
	found := Unknown
	for _, p := range s.Ports { // two clusters may call different ports the same
		if p.Name != port {
			continue
		}
		found = Exists
		if len(s.Addresses) == 0 {
			a.TTL = podTTL
			a.Targets = append(a.Targets, c.podTargets(v, s, p)...)
		} else if vips := c.vips(s); len(vips) > 0 {
			a.Targets = append(a.Targets, Target{Host: host, Port: p.Service, Addresses: vips})
		}
	}
	if len(a.Targets) == 0 {
		return Answer{}, found
	}
	return a, Known
}

// podTargets are a port of each ready pod of a headless service.
func (c Client) podTargets(v *directory.View, s *mesh.Service, p mesh.Port) []Target {
	var out []Target
	for _, w := range c.endpoints(v, s) {
		addresses := podAddresses(w, s)
		port, ok := directory.EndpointPort(s, w, p.Service)
		if len(addresses) == 0 || !ok || port.Target == 0 {
			continue
		}
		out = append(out, Target{Host: podLabel(w) + "." + s.Hostname, Port: port.Target, Addresses: addresses})
	}
	return out
}
