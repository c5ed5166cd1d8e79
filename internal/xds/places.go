// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// maxOwnStreams is how many streams one owner may have: a service account on one node, or a pod of which no node is known. A node has one node proxy, two while it is upgraded; of a gateway's
// pods all may be on one node, and there may be some tens of them.
const maxOwnStreams = 256

// standing is what a caller is to places.
type standing uint8

const (
	strange   standing = iota // neither of the others
	ofGateway                 // it runs as a Gateway's account
	ofNode                    // a node proxy
)

// places are what the streams take up, of the most that there may be. Anybody with a token of the mesh may ask, anybody who may write Gateways has tokens of gateways, and none may keep
// the others from asking:
//
//   - an owner has at most maxOwnStreams;
//   - those who are no node proxies have together at most three quarters, and those of one namespace at most an eighth;
//   - those of them who are no gateways either have together at most a half.
//
// Server.mu guards them.
type places struct {
	most       int
	taken      int
	by         [ofNode + 1]int
	owners     map[turnOwner]int
	namespaces map[string]int // of those who are no node proxies
}

func newPlaces(most int) *places {
	return &places{most: most, owners: map[turnOwner]int{}, namespaces: map[string]int{}}
}

// take counts a stream in. An error, which the caller is told, says that it may not be.
func (p *places) take(of turnOwner, as standing) error {
	switch {
	case p.taken >= p.most:
		return status.Error(codes.ResourceExhausted, "too many subscribers")
	case p.owners[of] >= maxOwnStreams:
		return status.Errorf(codes.ResourceExhausted, "too many streams of %s/%s on one node, or of one pod: at most %d are accepted", of.namespace, of.account, maxOwnStreams)
	case as != ofNode && p.by[strange]+p.by[ofGateway] >= p.most-p.most/4:
		return status.Error(codes.ResourceExhausted, "too many subscribers that are no node proxies")
	case as != ofNode && p.namespaces[of.namespace] >= (p.most+7)/8:
		return status.Errorf(codes.ResourceExhausted, "too many streams of namespace %s, which are not of node proxies", of.namespace)
	case as == strange && p.by[strange] >= (p.most+1)/2:
		return status.Error(codes.ResourceExhausted, "too many subscribers that are neither node proxies nor gateways")
	}
	p.taken++
	p.by[as]++
	p.owners[of]++
	if as != ofNode {
		p.namespaces[of.namespace]++
	}
	return nil
}

// give counts a stream out that was counted in.
func (p *places) give(of turnOwner, as standing) {
	p.taken--
	p.by[as]--
	if p.owners[of]--; p.owners[of] == 0 {
		delete(p.owners, of)
	}
	if as == ofNode {
		return
	}
	if p.namespaces[of.namespace]--; p.namespaces[of.namespace] == 0 {
		delete(p.namespaces, of.namespace)
	}
}

// standing says what a caller is. It needs mu.
func (s *Server) standing(c Caller) standing {
	switch {
	case s.options.Proxies != nil && s.options.Proxies(c):
		return ofNode
	case s.gateways[account{c.Namespace, c.ServiceAccount}] > 0:
		return ofGateway
	default:
		return strange
	}
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
