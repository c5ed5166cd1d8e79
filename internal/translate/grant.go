// SPDX-License-Identifier: Apache-2.0

package translate

import (
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// foldGrant notes that other references into a namespace may be allowed now.
func (x *index) foldGrant(k world.Key, now *world.ReferenceGrant, t *touched) {
	if k.Cluster != x.config.LocalCluster {
		return
	}
	if now == nil {
		x.grantsIn.remove(k.Namespace, k)
	} else {
		x.grantsIn.add(k.Namespace, k)
	}
	t.routes = true
	x.referable++
	for route := range x.routesInto[k.Namespace] {
		x.recompile(route)
	}
}

// granted says whether an object of a kind of the Gateway API may refer to an object of another namespace. Within a namespace it always may.
func (x *index) granted(from world.Key, kind world.Kind, to world.GrantTo, namespace string) bool {
	if from.Namespace == namespace {
		return true
	}
	for k := range x.grantsIn[namespace] {
		if allows(x.state.ReferenceGrants[k], world.GrantFrom{Group: gatewayv1.GroupName, Kind: string(kind), Namespace: from.Namespace}, to) {
			return true
		}
	}
	return false
}

func allows(g *world.ReferenceGrant, from world.GrantFrom, to world.GrantTo) bool {
	for _, f := range g.From {
		if f != from {
			continue
		}
		for _, t := range g.To {
			if t.Group == to.Group && t.Kind == to.Kind && (t.Name == "" || t.Name == to.Name) {
				return true
			}
		}
	}
	return false
}
