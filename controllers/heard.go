// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// heard is how much is known of a cluster that is linked. Two of one cluster are equal if it was heard of all the time in between. It is a value.
type heard struct {
	// all says that the whole cluster was read, is in use, and was translated: what is not known of it, it has not, as of its last contact.
	all bool
	// since is when it was read.
	since world.Mark
}

// Heard gives every cluster that is linked.
func (r *Remotes) Heard() map[world.Cluster]heard {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := make(map[world.Cluster]heard, len(r.entries))
	for id, e := range r.entries {
		known[id] = heard{all: r.translated(id, e), since: e.read}
	}
	return known
}

// Unheard are the clusters wished for that have not been read and translated yet, in order, and of which something would be in use if that had happened: the boot rule waits for
// them. One whose state would be too old by now, had it been read before and been unreachable since, is none; nor is one that must not be read under its id. One whose kubeconfig is
// refused is, if it was read before: what was known of it would still be in use, but for the restart.
func (r *Remotes) Unheard() []world.Cluster {
	r.mu.Lock()
	defer r.mu.Unlock()
	var unheard []world.Cluster
	for id, e := range r.entries {
		over := e.stale || e.limit > 0 && time.Since(e.wished) > e.limit
		is := false
		switch {
		case e.live != nil:
			is = !r.translated(id, e)
		case e.next != nil:
			is = e.next.health().phase != phaseRefused && !over
		case e.refusal != nil:
			is = e.known != "" && !over
		}
		if is {
			unheard = append(unheard, id)
		}
	}
	slices.Sort(unheard)
	return unheard
}

// translated says whether all that was read of a cluster was translated. It needs mu.
func (r *Remotes) translated(id world.Cluster, e *entry) bool {
	if e.live != nil && !e.told {
		e.told = r.store.Done(id, e.read)
	}
	return e.live != nil && e.told
}
