// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"net/textproto"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// likeHTTP is what a GRPCRoute has in common with an HTTPRoute.
func likeHTTP(r *world.GRPCRoute) *world.HTTPRoute {
	if r == nil {
		return nil
	}
	return &r.HTTPRoute
}

// grpcMatch says in HTTP's words what a GRPCRoute matches: a method is the path "/service/method". A problem names the field that is not served.
func grpcMatch(m *gatewayv1.GRPCRouteMatch) (out mesh.HTTPMatch, problem string) {
	out.Path = "/"
	if of := m.Method; of != nil {
		if of.Type != nil && *of.Type != gatewayv1.GRPCMethodMatchExact {
			return out, fmt.Sprintf("method.type %q is not supported", *of.Type)
		}
		switch service, method := value(of.Service), value(of.Method); {
		case service != "" && method != "":
			out.Path, out.Exact = "/"+service+"/"+method, true
		case service != "":
			out.Path = "/" + service
		default:
			out.RPC = method
		}
	}
	for i, h := range m.Headers {
		if h.Type != nil && *h.Type != gatewayv1.GRPCHeaderMatchExact {
			return out, fmt.Sprintf("headers[%d].type %q is not supported", i, *h.Type)
		}
		out.Headers = addPair(out.Headers, textproto.CanonicalMIMEHeaderKey(string(h.Name)), h.Value)
	}
	return out, ""
}
