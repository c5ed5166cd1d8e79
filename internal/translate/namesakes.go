// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// nameTaken finds a Service that has the Gateway's name and was not made for it. One without an owner that has our labels was left
// behind by an earlier Gateway of the name, and is taken. What is about to go is waited for.
func (x *index) nameTaken(g *world.Gateway) *gatewayProblem {
	s := x.state.Services[x.front(g)]
	if s == nil || x.takes(g, s) || isGoing(g, s) {
		return nil
	}
	return &gatewayProblem{gatewayv1.GatewayReasonInvalid,
		fmt.Sprintf("metadata.name: Service %s/%s exists and was not made for this Gateway: rename one of them", s.Namespace, s.Name)}
}

// nameGoing says that a Service has the Gateway's name, was not made for it, and is about to go.
func (x *index) nameGoing(g *world.Gateway) *gatewayProblem {
	s := x.state.Services[x.front(g)]
	if s == nil || x.takes(g, s) || !isGoing(g, s) {
		return nil
	}
	return &gatewayProblem{gatewayv1.GatewayReasonPending,
		fmt.Sprintf("waits for the end of Service %s/%s, which is an earlier Gateway's of the name, or being deleted", s.Namespace, s.Name)}
}

// takes says whether a Service was made for a Gateway, or left behind for it.
func (x *index) takes(g *world.Gateway, s *world.Service) bool {
	return s.Owner == g.UID || s.Owner == "" && x.madeByUs(g.Key)
}

// isGoing says whether a Service that is not a Gateway's is being deleted, or will be: that of an earlier Gateway of the name is collected some time after it.
func isGoing(g *world.Gateway, s *world.Service) bool {
	return s.Deleting || s.OwnerGateway == g.Name && s.Owner != g.UID
}
