// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// strictPolicy is the name of the policy that stands for PeerAuthentication STRICT, as ztunnel's users know it.
const strictPolicy = "istio_converted_static_strict"

const (
	modeStrict     = "STRICT"
	modePermissive = "PERMISSIVE"
	modeDisable    = "DISABLE"
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
			if p.Mode == modeStrict && !x.ignored(p) {
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
	if len(p.Ports) == 0 || len(p.Selector) == 0 || x.ignored(p) {
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

// peerMode is the mode that a PeerAuthentication asks for, with what it leaves unset taken from the namespace or the mesh. All but
// STRICT lets in both plaintext and tunnels.
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

// ignored says that a PeerAuthentication counts for nothing: in the system namespace they are for the whole mesh, and none selects there.
func (x *index) ignored(p *world.PeerAuthentication) bool {
	return p.Namespace == x.config.SystemNamespace && len(p.Selector) > 0
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

// podPeer is the PeerAuthentication that selects a pod and counts, or nil.
func (x *index) podPeer(p *world.Pod) *world.PeerAuthentication {
	return x.oldestPeer(p.Namespace, func(o *world.PeerAuthentication) bool {
		return len(o.Selector) > 0 && !x.ignored(o) && selects(o.Selector, p.Labels)
	})
}

// Reasons of Accepted=False on a PeerAuthentication.
const (
	ReasonNotInForce    = "NotInForce"    // it counts for nothing
	ReasonPartlyInForce = "PartlyInForce" // a part of it means less than was written
)

// peerFindings are about all PeerAuthentications of our own cluster: what of them does not mean what was written. An object that is as it should be has none.
func (x *index) peerFindings() map[world.ObjectRef][]Finding {
	out := map[world.ObjectRef][]Finding{}
	for _, keys := range x.peersIn {
		for k := range keys {
			p := x.state.PeerAuthentications[k]
			if reason, message := x.peerProblem(p); reason != "" {
				out[p.Ref()] = []Finding{{Type: ConditionAccepted, Status: isFalse, Reason: reason, Message: shorten(message), Generation: p.Generation}}
			}
		}
	}
	return out
}

func (x *index) peerProblem(p *world.PeerAuthentication) (reason, message string) {
	if x.ignored(p) {
		return ReasonNotInForce, fmt.Sprintf("spec.selector: in namespace %s a PeerAuthentication is for the whole mesh, and one with a selector counts for nothing: put it where the pods are", p.Namespace)
	}
	same := func(o *world.PeerAuthentication) bool { return maps.Equal(o.Selector, p.Selector) }
	if o := x.oldestPeer(p.Namespace, same); o != p {
		return ReasonNotInForce, fmt.Sprintf("PeerAuthentication %s/%s is older and for the same pods: the older one counts", o.Namespace, o.Name)
	}
	var notes []string
	note := func(path, mode string) {
		switch mode {
		case modeDisable:
			notes = append(notes, path+": DISABLE is not supported: a captured pod always takes tunnels, so it counts as PERMISSIVE")
		case "", modeUnset, modePermissive, modeStrict:
		default:
			notes = append(notes, fmt.Sprintf("%s: mode %q is not known: it counts as PERMISSIVE", path, mode))
		}
	}
	note("spec.mtls.mode", p.Mode)
	if len(p.Ports)+len(p.OddPorts) > 0 && len(p.Selector) == 0 {
		notes = append(notes, "spec.portLevelMtls counts only together with spec.selector: it is not in force")
	} else {
		for _, port := range slices.Sorted(maps.Keys(p.Ports)) {
			note(fmt.Sprintf("spec.portLevelMtls[%d].mode", port), p.Ports[port])
		}
		for _, port := range p.OddPorts {
			notes = append(notes, fmt.Sprintf("spec.portLevelMtls[%d]: that is no port", port))
		}
	}
	if len(notes) == 0 {
		return "", ""
	}
	return ReasonPartlyInForce, strings.Join(notes, "; ")
}
