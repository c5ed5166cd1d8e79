// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// MaxSecrets is how many Secrets and ConfigMaps are read for all Gateways and BackendTLSPolicies together: each is a watch, which is a request that stays open.
const MaxSecrets = 4096

// secretDemand counts the Secrets and ConfigMaps that are referred to, by the namespace of who does: whoever may write there could ask for any number.
type secretDemand struct {
	of   map[string]set[world.ObjectRef]
	most int // of one namespace; 0: any number
}

func newSecretDemand(most int) *secretDemand {
	return &secretDemand{of: map[string]set[world.ObjectRef]{}, most: most}
}

// take says whether one is read for an object of a namespace. Who asks first is served first.
func (d *secretDemand) take(namespace string, o world.ObjectRef) bool {
	of := d.of[namespace]
	if of == nil {
		of = set[world.ObjectRef]{}
		d.of[namespace] = of
	}
	if !of.has(o) && d.most > 0 && len(of) >= d.most {
		return false
	}
	of.add(o)
	return true
}

// share is how many each namespace may have, so that no more than most are read altogether; 0: any number, as they are few enough.
func (d *secretDemand) share(most int) int {
	wanted := make([]int, 0, len(d.of))
	for _, of := range d.of {
		wanted = append(wanted, len(of))
	}
	return fairShare(wanted, most)
}

// fairShare is how much each may have, so that all together have no more than most, by what each wants; 0: any number, as they want no more. Those that want less than
// others leave the rest to them. It is at least 1 to each, however many they are.
func fairShare(wanted []int, most int) int {
	total := 0
	for _, n := range wanted {
		total += n
	}
	if total <= most {
		return 0
	}
	slices.Sort(wanted)
	for i, n := range wanted {
		if each := most / (len(wanted) - i); n > each {
			return max(each, 1)
		}
		most -= n
	}
	return 0 // not reached: all together are more
}

// judgement is what is thought of all that refers to Secrets and ConfigMaps.
type judgement struct {
	gateways map[world.Key]*judged
	policies map[world.Key]*policyVerdict // BackendTLSPolicies that may be in force somewhere
}

// judgeAll looks at all our Gateways, of which the oldest comes first, and at policies. If they refer to more than is read, it does so again with a
// share for each namespace.
func (x *index) judgeAll(ours []*world.Gateway, wanted set[world.ObjectRef]) judgement {
	before := x.judged
	x.judged = [2]map[world.Key]*judged{}
	judge := func(look, most int) judgement {
		clear(wanted)
		x.memory.now = make(map[world.Key]*references, len(ours)+1)
		x.demand = newSecretDemand(most)
		out := judgement{gateways: make(map[world.Key]*judged, len(ours))}
		for _, g := range ours {
			out.gateways[g.Key] = x.judge(g, before[look], wanted)
		}
		x.judged[look] = out.gateways
		x.memory.begin(world.Key{})
		out.policies = x.judgePolicies(wanted)
		return out
	}
	out := judge(0, 0)
	if share := x.demand.share(x.maxSecrets); share > 0 {
		out = judge(1, share)
	}
	x.readAhead(out.policies, wanted)
	return out
}
