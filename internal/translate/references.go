// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// references are what one Gateway with its listeners refers to, or all BackendTLSPolicies together: Secrets and ConfigMaps.
type references struct {
	asked   []asked               // each once, in the order in which they were asked for
	known   map[reference]int     // where each is among these
	settled map[referrer]resolved // what they led to
	unread  bool                  // some were not read yet, so that it matters what was before
	at      int                   // index.referable when they were last found to lead to the same
}

// reference is one of them as far as it matters who refers.
type reference struct {
	kind      world.Kind // who refers, of a namespace
	namespace string
	to        world.ObjectRef
}

// asked is what came of a reference: whether it may be, whether there was room for it, and if not, how much room there was.
type asked struct {
	reference
	granted, taken bool
	most           int
}

// refer has an object refer to a Secret or ConfigMap, which is noted as wanted if it may be, and if there is room for it.
func (x *index) refer(from world.ObjectRef, ref world.SecretRef, wanted set[world.ObjectRef]) asked {
	of := reference{from.Kind, from.Namespace, world.ObjectRef{Kind: world.Kind(ref.Kind), Key: from.In(ref.Namespace, ref.Name)}}
	into := x.memory.into
	if i, known := into.known[of]; known {
		return into.asked[i]
	}
	out := asked{reference: of, granted: x.mayRefer(of)}
	if out.granted {
		x.want(&out, wanted)
	}
	if into.known == nil {
		into.known = map[reference]int{}
	}
	into.known[of] = len(into.asked)
	into.asked = append(into.asked, out)
	return out
}

// mayRefer says whether a reference is allowed.
func (x *index) mayRefer(of reference) bool {
	from := world.Key{Cluster: x.config.LocalCluster, Namespace: of.namespace}
	return x.granted(from, of.kind, world.GrantTo{Kind: string(of.to.Kind), Name: of.to.Name}, of.to.Namespace)
}

// want asks for what an allowed reference is to.
func (x *index) want(a *asked, wanted set[world.ObjectRef]) {
	if a.taken, a.most = x.demand.take(a.namespace, a.to), 0; a.taken {
		wanted.add(a.to)
	} else {
		a.most = x.demand.most
	}
}

// refersAgain asks for everything again that is referred to, and says whether the same comes of it.
func (x *index) refersAgain(was *references, wanted set[world.ObjectRef]) bool {
	if was.unread {
		return false
	}
	if was.at != x.referable { // first, as otherwise it would not be known what is asked for
		for i := range was.asked {
			if a := &was.asked[i]; x.mayRefer(a.reference) != a.granted {
				return false
			}
		}
		for by, r := range was.settled {
			if !slices.Equal(x.objects(by, r.from), r.read) {
				return false
			}
		}
		was.at = x.referable
	}
	for i := range was.asked {
		now := was.asked[i]
		if !now.granted {
			continue
		}
		if x.want(&now, wanted); now != was.asked[i] {
			return false
		}
	}
	return true
}
