// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// judged is what was found about the listeners of one of our Gateways. All Gateways are gone through for each change of anything that they are told, and there may be thousands with dozens of
// listeners each: one is judged anew only if what it was judged by is something else. The state never changes an object in place, so its objects are compared by where they are.
type judged struct {
	by         footing
	references *references
	verdicts   []listenerVerdict
	homes      map[world.ObjectRef]span // where those of each object are among them
	proof      proof

	// What was said last, and is said again as long as it is the same, so that nobody has to compare it word by word.
	reports   [2][]Finding // about its own listeners while it is not accepted, and while it is
	reported  bool         // which of these it was
	own, said []Finding    // about itself, and with that
	listeners []mesh.Listener
	ports     []mesh.Listener // of these
	ownStates []ListenerState
	setsSaid  []setSaid // of those in by.sets
}

// footing is what a Gateway's listeners are judged by, but for what they refer to.
type footing struct {
	gateway     *world.Gateway
	sets        []*world.ListenerSet // whose listeners are looked at, in their order
	front, made *world.Service       // that lead to it
	leads, in   bool                 // whether it may be a way into the cluster, and is not one too many
}

func (f *footing) is(o *footing) bool {
	return f.gateway == o.gateway && f.front == o.front && f.made == o.made && f.leads == o.leads && f.in == o.in && slices.Equal(f.sets, o.sets)
}

// judge finds what is thought of a Gateway's listeners, from memory if that is as it was. What they may refer to is noted as wanted.
func (x *index) judge(g *world.Gateway, before map[world.Key]*judged, wanted set[world.ObjectRef]) *judged {
	by := footing{
		gateway: g, sets: x.setsOf(g).in, front: x.state.Services[x.front(g)], made: x.made(g.Key),
		leads: x.mayLeadIn(g), in: x.isWayIn(g),
	}
	if was := before[g.Key]; was != nil && was.by.is(&by) && x.refersAgain(was.references, wanted) {
		x.memory.now[g.Key] = was.references
		return was
	}
	x.judgings++
	out := &judged{by: by, references: x.memory.begin(g.Key)}
	out.verdicts, out.proof = x.judgeListeners(g, by.sets, wanted), x.proofOf(g, wanted)
	out.homes = homesOf(g, out.verdicts)
	out.references.at = x.referable
	return out
}

// report is what is to be said of the Gateway's own listeners.
func (j *judged) report(isAccepted bool) []Finding {
	out := &j.reports[0]
	if isAccepted {
		out = &j.reports[1]
	}
	if *out == nil {
		g := j.by.gateway
		for i := range g.Listeners { // which come first
			j.verdicts[i].report(func(listener, kind string, holds bool, reason, message string) {
				*out = append(*out, gatewayFinding(g, listener, kind, holds, reason, message))
			}, isAccepted)
		}
	}
	return *out
}

// say is a report, and what is to be said of the Gateway itself.
func (j *judged) say(isAccepted bool, own []Finding) []Finding {
	if j.said == nil || j.reported != isAccepted || !slices.Equal(own, j.own) {
		j.reported, j.own, j.said = isAccepted, own, slices.Concat(j.report(isAccepted), own)
	}
	return j.said
}
