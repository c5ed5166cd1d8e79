// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// strictPolicy is the name of the policy that stands for PeerAuthentication STRICT, as ztunnel's users know it.
const strictPolicy = "istio_converted_static_strict"

const (
	modeStrict     = "STRICT"
	modePermissive = "PERMISSIVE"
	modeUnset      = "UNSET"
)

// plaintext matches a peer that proved nothing.
var plaintext = []mesh.StringMatch{{Kind: mesh.MatchPresence}}

// peerPolicies are the policies that stand for all PeerAuthentications.
func (x *index) peerPolicies() map[string]*mesh.Policy {
	out := map[string]*mesh.Policy{}
	for _, keys := range x.peersIn {
		for k := range keys {
			p := x.state.PeerAuthentications[k]
			if p.Mode == modeStrict {
				static := &mesh.Policy{
					Name: strictPolicy, Namespace: x.config.SystemNamespace, Scope: mesh.PolicyWorkloads, Action: mesh.Deny,
					Rules: []mesh.PolicyRule{{Clauses: []mesh.PolicyClause{{Matches: []mesh.PolicyMatch{{NotPrincipals: plaintext}}}}}},
				}
				out[static.Key()] = static
			}
			if converted := x.portPolicy(p); converted != nil {
				out[converted.Key()] = converted
			}
		}
	}
	return out
}

// portPolicy stands for a PeerAuthentication with modes of single ports; nil if it needs none.
func (x *index) portPolicy(p *world.PeerAuthentication) *mesh.Policy {
	if len(p.Ports) == 0 || len(p.Selector) == 0 {
		return nil // Istio, too, heeds ports only together with a selector
	}
	mode := x.peerMode(p, p.Namespace)
	m := mesh.PolicyMatch{NotPrincipals: plaintext}
	for _, port := range slices.Sorted(maps.Keys(p.Ports)) {
		strict := p.Ports[port] == modeStrict || p.Ports[port] == modeUnset && mode == modeStrict
		switch {
		case mode == modeStrict && !strict:
			m.NotDestinationPorts = append(m.NotDestinationPorts, port)
		case mode != modeStrict && strict:
			m.DestinationPorts = append(m.DestinationPorts, port)
		}
	}
	if len(m.DestinationPorts)+len(m.NotDestinationPorts) == 0 {
		return nil
	}
	return &mesh.Policy{
		Name: "converted_peer_authentication_" + p.Name, Namespace: p.Namespace, Scope: mesh.PolicyWorkloads, Action: mesh.Deny,
		Rules: []mesh.PolicyRule{{Clauses: []mesh.PolicyClause{{Matches: []mesh.PolicyMatch{m}}}}},
	}
}

// peerMode is the mode that a PeerAuthentication asks for, with what it leaves unset taken from the namespace or the mesh.
func (x *index) peerMode(p *world.PeerAuthentication, namespace string) string {
	if p != nil && p.Mode != modeUnset && p.Mode != "" {
		return p.Mode
	}
	for _, ns := range []string{namespace, x.config.SystemNamespace} {
		if o := x.oldestPeer(ns, func(o *world.PeerAuthentication) bool { return len(o.Selector) == 0 }); o != nil && o.Mode != modeUnset && o.Mode != "" {
			return o.Mode
		}
	}
	return modePermissive
}

// oldestPeer is the PeerAuthentication of a namespace that counts among those that fit.
func (x *index) oldestPeer(namespace string, fits func(*world.PeerAuthentication) bool) *world.PeerAuthentication {
	var best *world.PeerAuthentication
	for k := range x.peersIn[namespace] {
		p := x.state.PeerAuthentications[k]
		if fits(p) && (best == nil || cmp.Or(cmp.Compare(p.Created, best.Created), cmp.Compare(p.Name, best.Name)) < 0) {
			best = p
		}
	}
	return best
}
