// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// MaxSecrets is how many Secrets are read for all Gateways together: each is a watch, which is a request that stays open.
const MaxSecrets = 4096

// secretDemand counts the Secrets that Gateways refer to, by the Gateways' namespace: whoever may write there could ask for any number.
type secretDemand struct {
	of   map[string]set[world.Key]
	most int // of one namespace; 0: any number
}

func newSecretDemand(most int) *secretDemand {
	return &secretDemand{of: map[string]set[world.Key]{}, most: most}
}

// take says whether a Secret is read for a Gateway of a namespace. Who asks first is served first.
func (d *secretDemand) take(namespace string, k world.Key) bool {
	of := d.of[namespace]
	if of == nil {
		of = set[world.Key]{}
		d.of[namespace] = of
	}
	if !of.has(k) && d.most > 0 && len(of) >= d.most {
		return false
	}
	of.add(k)
	return true
}

// share is how many Secrets each namespace may have, so that no more than most are read altogether; 0: any number, as they are few enough. Those that want less than
// others leave the rest to them.
func (d *secretDemand) share(most int) int {
	wanted := make([]int, 0, len(d.of))
	total := 0
	for _, of := range d.of {
		wanted = append(wanted, len(of))
		total += len(of)
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

// judgeAll looks at the listeners of all our Gateways, of which the oldest comes first. If they refer to more Secrets than are read, it does so
// again with a share for each namespace.
func (x *index) judgeAll(ours []*world.Gateway, secrets set[world.Key]) map[world.Key][]listenerVerdict {
	judge := func(most int) map[world.Key][]listenerVerdict {
		clear(secrets)
		x.demand = newSecretDemand(most)
		out := make(map[world.Key][]listenerVerdict, len(ours))
		for _, g := range ours {
			out[g.Key] = x.judgeListeners(g, secrets)
		}
		return out
	}
	out := judge(0)
	if share := x.demand.share(x.maxSecrets); share > 0 {
		out = judge(share)
	}
	return out
}
