// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"slices"
	"sync"

	"github.com/go-logr/logr"

	"github.com/isthmus-mesh/isthmus/internal/authz"
	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// maxJudgeEntries bounds what a Judge keeps: a few times the pods of a node. Beyond it all is forgotten and made again as it is needed.
const maxJudgeEntries = 1024

// Judge answers what authz.Authorize answers with the policies of a view, in a time that hardly depends on how many there are. It keeps the
// policies of each namespace, and those that single workloads name, indexed until they change. It is safe for any number of callers.
type Judge struct {
	log logr.Logger

	mu     sync.RWMutex
	scopes map[string]scopeEntry // by namespace; the mesh's own under ""
	named  map[string]namedEntry // by UID of the workload
}

type scopeEntry struct {
	policies []*mesh.Policy // of the view, which gives the same slice until one of them changes
	index    func() *authz.Index
}

type namedEntry struct {
	workload *mesh.Workload
	turn     uint64
	policies []*mesh.Policy
	index    func() *authz.Index
}

// NewJudge tells log of policies that workloads name and nobody knows.
func NewJudge(log logr.Logger) *Judge {
	return &Judge{log: log, scopes: map[string]scopeEntry{}, named: map[string]namedEntry{}}
}

// Authorize judges a caller of a workload by the policies of a view.
func (j *Judge) Authorize(v *directory.View, self *mesh.Workload, c authz.Caller) authz.Verdict {
	indexes := [3]*authz.Index{j.scope(v, ""), nil, j.ofWorkload(v, self)}
	if self.Namespace != "" {
		indexes[1] = j.scope(v, self.Namespace)
	}
	return authz.Judge(indexes[:], c)
}

// scope gives the index of a namespace's policies, or of the mesh's; nil if there are none.
func (j *Judge) scope(v *directory.View, scope string) *authz.Index {
	policies := v.ScopedPolicies(scope)
	if len(policies) == 0 {
		return nil
	}
	fresh := func(e scopeEntry) bool { return len(e.policies) == len(policies) && &e.policies[0] == &policies[0] }
	j.mu.RLock()
	e, ok := j.scopes[scope]
	j.mu.RUnlock()
	if !ok || !fresh(e) {
		j.mu.Lock()
		if e, ok = j.scopes[scope]; !ok || !fresh(e) {
			if len(j.scopes) >= maxJudgeEntries {
				clear(j.scopes)
			}
			e = scopeEntry{policies, sync.OnceValue(func() *authz.Index { return authz.NewIndex(policies) })}
			j.scopes[scope] = e
		}
		j.mu.Unlock()
	}
	return e.index()
}

// ofWorkload gives the index of the policies that a workload names; nil if it names none.
func (j *Judge) ofWorkload(v *directory.View, w *mesh.Workload) *authz.Index {
	if len(w.Policies) == 0 {
		return nil
	}
	fresh := func(e namedEntry) bool { return e.workload == w && e.turn == v.PolicyTurn() }
	j.mu.RLock()
	e, ok := j.named[w.UID]
	j.mu.RUnlock()
	if !ok || !fresh(e) {
		j.mu.Lock()
		if e, ok = j.named[w.UID]; !ok || !fresh(e) {
			e = j.renew(v, w, e)
		}
		j.mu.Unlock()
	}
	return e.index()
}

// renew makes an entry for a workload, of the older one if that holds the same policies. mu is held.
func (j *Judge) renew(v *directory.View, w *mesh.Workload, older namedEntry) namedEntry {
	policies, unknown := v.NamedPolicies(w)
	if len(unknown) > 0 {
		j.log.Info("policies are named and not known: they are not in force until they are", "workload", w.Namespace+"/"+w.Name, "policies", unknown)
	}
	if len(j.named) >= maxJudgeEntries {
		clear(j.named)
	}
	e := namedEntry{w, v.PolicyTurn(), policies, older.index}
	if e.index == nil || !slices.Equal(policies, older.policies) {
		e.index = sync.OnceValue(func() *authz.Index { return authz.NewIndex(policies) })
	}
	j.named[w.UID] = e
	return e
}
