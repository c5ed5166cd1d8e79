// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"fmt"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// overlay is what a Gateway's parametersRef names; nil: it names nothing.
func (x *index) overlay(g *world.Gateway) *world.Overlay {
	if g.Parameters == "" {
		return nil
	}
	return x.state.Overlays[g.In(g.Namespace, g.Parameters)]
}

// serviceType is that of the Service that is made for a Gateway: the overlay's, or else the annotation's.
func (x *index) serviceType(g *world.Gateway) string {
	if o := x.overlay(g); o.Usable() && o.ServiceType != "" {
		return o.ServiceType
	}
	if g.Class == ClassWaypoint { // for clients in the mesh only
		return cmp.Or(g.ServiceType, typeClusterIP)
	}
	return cmp.Or(g.ServiceType, typeLoadBalancer)
}

// parametersProblem finds what is wrong with what a Gateway's parametersRef names, if anything.
func (x *index) parametersProblem(g *world.Gateway) *gatewayProblem {
	invalid := func(format string, args ...any) *gatewayProblem {
		return &gatewayProblem{gatewayv1.GatewayReasonInvalidParameters, fmt.Sprintf(format, args...)}
	}
	if g.HasParameters {
		return invalid("spec.infrastructure.parametersRef: it must name a ConfigMap (group \"\"), no other kind of parameters is supported")
	}
	if g.Parameters == "" {
		return nil
	}
	if unmanaged(g) {
		return invalid("spec.infrastructure.parametersRef: nothing is made for a Gateway whose spec.addresses names a Service, so there is nothing to set")
	}
	name := fmt.Sprintf("ConfigMap %s/%s", g.Namespace, g.Parameters)
	o := x.overlay(g)
	switch {
	case o == nil:
		return &gatewayProblem{gatewayv1.GatewayReasonPending, name + " is being read"}
	case o.Missing:
		return invalid("spec.infrastructure.parametersRef: there is no %s", name)
	case o.Problem != "":
		return invalid("%s: %s", name, o.Problem)
	}
	kind := x.serviceType(g)
	switch {
	case o.LoadBalancerClass != "" && kind != typeLoadBalancer:
		return invalid("%s: service.loadBalancerClass: the Service is of type %s", name, kind)
	case len(o.SourceRanges) > 0 && kind != typeLoadBalancer:
		return invalid("%s: service.loadBalancerSourceRanges: the Service is of type %s", name, kind)
	case o.ExternalTrafficPolicy != "" && kind == typeClusterIP:
		return invalid("%s: service.externalTrafficPolicy: the Service is of type %s", name, kind)
	}
	return nil
}

// foldOverlay notes that Gateways may be run differently now.
func (x *index) foldOverlay(k world.Key, t *touched) {
	if k.Cluster == x.config.LocalCluster {
		t.gateways = true
	}
}
