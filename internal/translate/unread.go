// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// Secrets and ConfigMaps are read because the translation wants them, so it meets each of them for the first time without it: what is referred to is not there, and yet
// nobody said that it is absent (world.Secret and world.Anchors have words for that). Until somebody does, which is soon, what refers to it keeps what was in force. Build
// knows no before: there what was not read is as good as absent.

// referrer is what refers to Secrets or ConfigMaps, and goes by all of them or by none.
type referrer struct {
	owner world.ObjectRef
	place string // a listener, its port, and a field of it
}

// resolved is what the references of a referrer led to when all of them had been read.
type resolved struct {
	from         []world.SecretRef
	read         []any // what each of them led to
	certificates []mesh.Certificate
	clients      *mesh.ClientValidation
	refs         trouble

	awaited []world.SecretRef // what it stands in for; nil: it was read itself
	changes int               // how often that became something else
}

// maxAwaited is for how many different lists of references in a row, none of which was read when the next one came, something older stands in. Whoever changed them
// all the time would keep in force what is long gone.
const maxAwaited = 2

// memory holds what was resolved, for the time in which something else is not read yet.
type memory struct {
	before, now map[world.Key]*references // by Gateway that they are of, those of BackendTLSPolicies by none
	into        *references               // to which is added
	// said is what the last look at all Gateways gave; zero: there was none.
	said gateways
}

// begin starts another look at a Gateway, or at policies.
func (m *memory) begin(gateway world.Key) *references {
	m.into = &references{settled: map[referrer]resolved{}}
	m.now[gateway] = m.into
	return m.into
}

// last is what a referrer's references led to at the last look.
func (m *memory) last(by referrer) (resolved, bool) {
	home := by.owner.Key
	switch by.owner.Kind {
	case world.KindListenerSet: // at whichever Gateway it was
		for _, of := range m.before {
			if was, known := of.settled[by]; known {
				return was, true
			}
		}
		return resolved{}, false
	case world.KindBackendTLSPolicy:
		home = world.Key{}
	}
	of := m.before[home]
	if of == nil {
		return resolved{}, false
	}
	was, known := of.settled[by]
	return was, known
}

// keep has the next look fall back to what this one gives.
func (m *memory) keep(said gateways) { m.before, m.now, m.into, m.said = m.now, nil, nil, said }

// settle remembers what a referrer's references lead to. If something was not read yet, it gives what they led to before, as far as that is still what it was and may be referred to.
func (x *index) settle(by referrer, now resolved, unread bool) resolved {
	x.memory.into.unread = x.memory.into.unread || unread
	if !unread {
		now.read = x.objects(by, now.from)
	} else if was, stands := x.standIn(by, now); stands {
		now = was
	} else {
		return now // not remembered: it is nothing to fall back to
	}
	x.memory.into.settled[by] = now
	return now
}

// standIn is what counts instead of references that were not read yet, if anything may.
func (x *index) standIn(by referrer, now resolved) (resolved, bool) {
	was, known := x.memory.last(by)
	if !known || laxer(was.clients, now.clients) {
		return now, false
	}
	for i, o := range x.objects(by, was.from) {
		ref := was.from[i]
		// Of what is not referred to any more nothing is heard.
		if o != nil && o != was.read[i] || !x.granted(by.owner.Key, by.owner.Kind, world.GrantTo{Kind: ref.Kind, Name: ref.Name}, ref.Namespace) {
			return now, false
		}
	}
	if !slices.Equal(was.awaited, now.from) {
		was.awaited, was.changes = now.from, was.changes+1
	}
	return was, was.changes <= maxAwaited
}

// laxer says whether clients prove less by one validation than by another one.
func laxer(was, now *mesh.ClientValidation) bool {
	return now != nil && !now.Insecure && (was == nil || was.Insecure)
}

// objects are what references lead to; nil for what was not read. The state never changes an object in place.
func (x *index) objects(by referrer, from []world.SecretRef) []any {
	out := make([]any, len(from))
	for i, ref := range from {
		k := by.owner.In(ref.Namespace, ref.Name)
		if s := x.state.Secrets[k]; s != nil && ref.Kind == string(world.KindSecret) {
			out[i] = s
		} else if a := x.state.Anchors[k]; a != nil && ref.Kind == string(world.KindAnchors) {
			out[i] = a
		}
	}
	return out
}

// awaits says whether a policy of which something was not read yet may leave in force what was. One that is new leaves things as if it came a moment later, but its references count from then on.
func (x *index) awaits(p *world.BackendTLSPolicy, unread bool) bool {
	by, now := referrer{p.Ref(), "backends"}, resolved{from: p.CAs}
	of := x.memory.into.settled
	if _, known := x.memory.last(by); unread && !known {
		of[by] = resolved{awaited: p.CAs, changes: 1}
		return true
	}
	x.settle(by, now, unread)
	_, stands := of[by]
	if !stands {
		of[by] = resolved{awaited: p.CAs, changes: maxAwaited + 1} // it is not new at the next look
	}
	return stands
}

// unread says whether an object that is wanted was not read yet.
func (x *index) unread(o world.ObjectRef) bool {
	if o.Kind == world.KindSecret {
		return x.state.Secrets[o.Key] == nil
	}
	return x.state.Anchors[o.Key] == nil
}

// Unread says whether anything that is wanted was not read yet, so that what was told is not what will be told.
func (e *Engine) Unread() bool {
	for o := range e.gates.wanted {
		if e.x.unread(o) {
			return true
		}
	}
	return false
}

// readAhead wants what BackendTLSPolicies refer to that are in force nowhere, as a route may lead to their Services at any time: as far as there is room for it.
func (x *index) readAhead(judged map[world.Key]*policyVerdict, wanted set[world.ObjectRef]) {
	for _, k := range slices.SortedFunc(maps.Keys(x.state.BackendTLSPolicies), world.Key.Compare) {
		p := x.state.BackendTLSPolicies[k]
		if k.Cluster != x.config.LocalCluster || judged[k] != nil || len(p.Targets) == 0 {
			continue
		}
		for _, ref := range p.CAs {
			if readable(ref) && ref.Namespace == p.Namespace && len(wanted) < x.maxSecrets {
				wanted.add(world.ObjectRef{Kind: world.Kind(ref.Kind), Key: k.In(ref.Namespace, ref.Name)})
			}
		}
	}
}

// unreadAt is how a Gateway speaks to a port of a Service whose policy was not read yet: as it did before. One that sent nothing there before waits.
func (x *index) unreadAt(g *gate, service mesh.ServiceKey, port uint16, waits string) (mesh.BackendTLS, bool) {
	before := x.memory.said.configs[mesh.GatewayKey{Namespace: g.gateway.Namespace, Name: g.gateway.Name}]
	if before != nil {
		at := mesh.BackendTLS{Service: service, Port: port}
		if i, ok := slices.BinarySearchFunc(before.BackendTLS, at, mesh.CompareBackendTLS); ok {
			return before.BackendTLS[i], true
		}
		if reaches(before, service) {
			return mesh.BackendTLS{}, false
		}
	}
	return mesh.BackendTLS{Service: service, Port: port, Problem: waits}, true
}

// reaches says whether a Gateway as it was told sends to a service what it has looked into.
func reaches(g *mesh.Gateway, service mesh.ServiceKey) bool {
	for i := range g.Listeners {
		l := &g.Listeners[i]
		for _, r := range l.Routes {
			for s := range r.Reached() {
				if s == service {
					return true
				}
			}
		}
		for _, r := range l.TLSRoutes {
			if l.Protocol == mesh.ListenerTLSTerminate && slices.ContainsFunc(r.Backends, func(b mesh.StreamBackend) bool { return b.Service == service }) {
				return true
			}
		}
	}
	return false
}
