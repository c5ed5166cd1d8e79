// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"net/netip"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/zds"
)

// probe puts the addresses of a pod that is coming into the node's set.
func (e *enrolment) probe(w zds.Workload, addrs []netip.Addr) error {
	e.addressing.Lock()
	defer e.addressing.Unlock()
	e.mu.Lock()
	e.coming[w.UID] = captured{workload: w, addrs: addrs}
	e.mu.Unlock()
	return e.probes.Add(addrs)
}

// abandon ends what probe began: the pod could not be captured. One of its uid that was captured or kept before stays as it was.
func (e *enrolment) abandon(uid string) {
	e.mu.Lock()
	c := e.coming[uid]
	delete(e.coming, uid)
	e.mu.Unlock()
	e.unprobe(c, nil)
}

// unprobe takes a pod's addresses out of the node's set, except those that it still has and those that another pod has by now.
func (e *enrolment) unprobe(c captured, still []netip.Addr) {
	e.addressing.Lock()
	defer e.addressing.Unlock()
	e.mu.Lock()
	var gone []netip.Addr
	for _, a := range c.addrs {
		if !slices.Contains(still, a) && !e.holds(a) {
			gone = append(gone, a)
		}
	}
	e.mu.Unlock()
	if err := e.probes.Delete(gone); err != nil {
		e.log.Error(err, "probe addresses left behind", "workload", c.workload.Namespace+"/"+c.workload.Name)
	}
}

// holds says whether a pod of the set, or one that is kept or coming, has the address. It is called with mu held.
func (e *enrolment) holds(a netip.Addr) bool {
	for _, all := range []map[string]captured{e.pods, e.kept, e.coming} {
		for _, c := range all {
			if slices.Contains(c.addrs, a) {
				return true
			}
		}
	}
	return false
}
