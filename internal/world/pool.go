// SPDX-License-Identifier: Apache-2.0

package world

import (
	"hash/maphash"
	"maps"
	"sync"
)

// maxPooled bounds the words and the sets of labels of a pool. One that reaches it begins anew, which costs memory and no correctness.
const maxPooled = 1 << 15

// Pool lets the pods of a cluster share what they have in common, which is most of what they are: pods of one workload have the same
// labels, and all of a node its name. The zero value is ready for use, from anywhere.
type Pool struct {
	mu     sync.Mutex
	seed   maphash.Seed
	words  map[string]string
	labels map[uint64]map[string]string // by hash
}

// Share replaces parts of a value that was just made, and that nobody else has yet, by equal ones that were seen before.
func (p *Pool) Share(o Object) {
	pod, ok := o.(*Pod)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.words == nil {
		p.seed, p.words, p.labels = maphash.MakeSeed(), map[string]string{}, map[uint64]map[string]string{}
	}
	pod.Namespace, pod.Node, pod.ServiceAccount = p.word(pod.Namespace), p.word(pod.Node), p.word(pod.ServiceAccount)
	if pod.WorkloadName == pod.Name {
		pod.WorkloadName = pod.Name // one string, not two alike
	} else {
		pod.WorkloadName = p.word(pod.WorkloadName)
	}
	pod.Labels = p.set(pod.Labels)
}

// word needs mu.
func (p *Pool) word(s string) string {
	if known, ok := p.words[s]; ok {
		return known
	}
	if len(p.words) >= maxPooled {
		clear(p.words)
	}
	p.words[s] = s
	return s
}

// set needs mu.
func (p *Pool) set(labels map[string]string) map[string]string {
	if len(labels) == 0 {
		return labels
	}
	var sum uint64
	for k, v := range labels { // in any order, so the sum must not depend on it
		sum += maphash.String(p.seed, k)*31 + maphash.String(p.seed, v)
	}
	if known := p.labels[sum]; maps.Equal(known, labels) {
		return known
	}
	if len(p.labels) >= maxPooled {
		clear(p.labels)
	}
	p.labels[sum] = labels
	return labels
}
