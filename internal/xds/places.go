// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// maxOwnStreams is how many streams one owner may have: a service account on one node, or a pod of which no node is known. A node has one node proxy, two while it is upgraded; of a gateway's
// pods all may be on one node, and there may be some tens of them.
const maxOwnStreams = 256

// places are what the streams take up, of the most that there may be. Anybody with a token of the mesh may ask, and none may keep the others from asking:
//
//   - an owner has at most maxOwnStreams;
//   - those who are neither node proxies nor gateways have together at most a half, and those of one namespace at most an eighth.
//
// Server.mu guards them.
type places struct {
	most       int
	taken      int
	strangers  int
	owners     map[turnOwner]int
	namespaces map[string]int // of strangers
}

func newPlaces(most int) *places {
	return &places{most: most, owners: map[turnOwner]int{}, namespaces: map[string]int{}}
}

// take counts a stream in. An error, which the caller is told, says that it may not be.
func (p *places) take(of turnOwner, stranger bool) error {
	switch {
	case p.taken >= p.most:
		return status.Error(codes.ResourceExhausted, "too many subscribers")
	case p.owners[of] >= maxOwnStreams:
		return status.Errorf(codes.ResourceExhausted, "too many streams of %s/%s on one node, or of one pod: at most %d are accepted", of.namespace, of.account, maxOwnStreams)
	case stranger && p.strangers >= (p.most+1)/2:
		return status.Error(codes.ResourceExhausted, "too many subscribers that are neither node proxies nor gateways")
	case stranger && p.namespaces[of.namespace] >= (p.most+7)/8:
		return status.Errorf(codes.ResourceExhausted, "too many streams of namespace %s, which are neither of node proxies nor of gateways", of.namespace)
	}
	p.taken++
	p.owners[of]++
	if stranger {
		p.strangers++
		p.namespaces[of.namespace]++
	}
	return nil
}

// give counts a stream out that was counted in.
func (p *places) give(of turnOwner, stranger bool) {
	p.taken--
	if p.owners[of]--; p.owners[of] == 0 {
		delete(p.owners, of)
	}
	if !stranger {
		return
	}
	p.strangers--
	if p.namespaces[of.namespace]--; p.namespaces[of.namespace] == 0 {
		delete(p.namespaces, of.namespace)
	}
}

// stranger says whether a caller is neither a node proxy nor a gateway. It needs mu.
func (s *Server) stranger(c Caller) bool {
	if s.options.Proxies != nil && s.options.Proxies(c) {
		return false
	}
	return s.gateways[account{c.Namespace, c.ServiceAccount}] == 0
}

// count notes that a gateway, unless e is nil, is there (1) or is not any more (-1). It needs mu.
func (s *Server) count(e *entry, by int) {
	if e == nil {
		return
	}
	of := account{e.owner.Namespace, e.owner.ServiceAccount}
	if s.gateways[of] += by; s.gateways[of] == 0 {
		delete(s.gateways, of)
	}
}

// account is one that gateways run as.
type account struct{ namespace, name string }
