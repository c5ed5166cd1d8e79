// SPDX-License-Identifier: Apache-2.0

package world

import gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

// StreamRoute is what TCPRoutes and UDPRoutes of our own cluster have in common. All rules match the same, so that the backends of all of them
// share what comes.
type StreamRoute struct {
	Key
	Generation int64
	Created    int64 // Unix seconds
	Parents    []RouteParent
	Rules      [][]gatewayv1.BackendRef
}

// TCPRoute is a Gateway API TCPRoute.
type TCPRoute struct{ StreamRoute }

// Ref names the route.
func (r *TCPRoute) Ref() ObjectRef { return ObjectRef{KindTCPRoute, r.Key} }

// UDPRoute is a Gateway API UDPRoute.
type UDPRoute struct{ StreamRoute }

// Ref names the route.
func (r *UDPRoute) Ref() ObjectRef { return ObjectRef{KindUDPRoute, r.Key} }
