// SPDX-License-Identifier: Apache-2.0

package translate

import "github.com/isthmus-mesh/isthmus/internal/world"

// members are the pods behind one service in one cluster, added up so that a change of one pod costs no walk over the others.
type members struct {
	refs     map[string]int    // pod's name → entries of slices that name it
	pods     map[string]member // those that count
	accounts map[string]tally  // by service account
}

// member is what one pod adds.
type member struct {
	account string
	healthy bool
}

// tally counts pods.
type tally struct{ all, healthy int }

func newMembers() *members {
	return &members{refs: map[string]int{}, pods: map[string]member{}, accounts: map[string]tally{}}
}

// memberOf says what a pod adds to the services that it is behind, if it counts at all: pods that no tunnel reaches do not,
// because other networks have no other way to them.
func memberOf(p *world.Pod) (member, bool) {
	if p == nil || !p.Captured || p.HostNetwork || len(p.Addresses) == 0 {
		return member{}, false
	}
	return member{account: p.ServiceAccount, healthy: healthy(p)}, true
}

// healthy says whether new connections may go to a pod.
func healthy(p *world.Pod) bool { return p.Ready && !p.Deleting }

// set says what a pod is now. It says whether there are other service accounts now; else only counts differ.
func (m *members) set(name string, now member, counts bool) (accounts bool) {
	was, counted := m.pods[name]
	before := len(m.accounts)
	if counts {
		m.pods[name] = now
		m.add(now, 1)
	} else {
		delete(m.pods, name)
	}
	grew := len(m.accounts) != before
	before = len(m.accounts)
	if counted {
		m.add(was, -1)
	}
	return grew || len(m.accounts) != before
}

func (m *members) add(x member, n int) {
	t := m.accounts[x.account]
	t.all += n
	if x.healthy {
		t.healthy += n
	}
	if t.all == 0 {
		delete(m.accounts, x.account)
	} else {
		m.accounts[x.account] = t
	}
}
