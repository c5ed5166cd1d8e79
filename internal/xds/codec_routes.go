// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds/pb/gatewaypb"
)

// A gateway is one resource with all of its routes, so that it never holds half of a change. There may be thousands, of which a change is about one: the others are
// neither encoded nor decoded anew, but taken from what was told last.

// gatewayRoutes is the number of the field for routes, as in proto/isthmus/gateway/v1/gateway.proto.
const gatewayRoutes = 10

// encodedRoutes is how the routes of one gateway are written, each as a field of it. Routes are never changed once they were told, so that a pointer stands for all that
// is at its end.
type encodedRoutes map[*mesh.HTTPRoute][]byte

// encodeGateway gives the bytes of a Gateway resource, and the encoded routes of it for the next time. before are those of the last time, or nil.
func encodeGateway(g *mesh.Gateway, before encodedRoutes) (body []byte, routes encodedRoutes, err error) {
	places := routeTable{places: map[*mesh.HTTPRoute]uint32{}}
	if body, err = marshal.Marshal(gatewayToProto(g, &places)); err != nil {
		return nil, nil, err
	}
	routes = make(encodedRoutes, len(places.routes))
	size := len(body)
	for _, r := range places.routes {
		field, ok := before[r]
		if !ok {
			text, err := marshal.Marshal(routeToProto(r))
			if err != nil {
				return nil, nil, err
			}
			field = make([]byte, 0, protowire.SizeTag(gatewayRoutes)+protowire.SizeBytes(len(text)))
			field = protowire.AppendBytes(protowire.AppendTag(field, gatewayRoutes, protowire.BytesType), text)
		}
		routes[r] = field
		size += len(field)
	}
	whole := append(make([]byte, 0, size), body...)
	for _, r := range places.routes {
		whole = append(whole, routes[r]...)
	}
	return whole, routes, nil
}

// decodedRoutes are the routes of one gateway by their bytes on the wire.
type decodedRoutes map[string]*mesh.HTTPRoute

// decodeGateway reads a Gateway resource, and gives its routes for the next time. Those that are as one of before, the last time's (or nil), are the same values.
// A gateway together with an error is one of which single routes or policies could not be read: others stand in for them, so that nobody's object stops what is
// told of the others. The error names them.
func decodeGateway(body []byte, before decodedRoutes) (*mesh.Gateway, decodedRoutes, error) {
	rest, texts, err := splitRoutes(body)
	if err != nil {
		return nil, nil, err
	}
	var g gatewaypb.Gateway
	if err := proto.Unmarshal(rest, &g); err != nil {
		return nil, nil, err
	}
	var r gatewayReader
	if !r.count("http_routes", len(texts), maxMembers) {
		return nil, nil, r.err
	}
	now := make(decodedRoutes, len(texts))
	routes := make([]*mesh.HTTPRoute, 0, len(texts))
	for _, text := range texts {
		route := before[string(text)]
		if route == nil {
			var fault error
			if route, fault = decodeRoute(text); fault != nil {
				r.part("route %s: %v", clip(route.Key().String()), fault)
				routes = append(routes, route)
				continue // and is not remembered: it is told of each time
			}
		}
		now[string(text)] = route
		routes = append(routes, route)
	}
	gateway := r.gateway(&g, routes)
	if r.err != nil {
		return nil, nil, r.err
	}
	if len(r.parts) > 0 {
		return gateway, now, errors.New(strings.Join(r.parts, "; "))
	}
	return gateway, now, nil
}

// decodeRoute reads a route. With an error it gives what stands in for it: of its hostnames, if they could be read, everything that no other route takes is answered with 500.
func decodeRoute(text []byte) (*mesh.HTTPRoute, error) {
	var in gatewaypb.HTTPRoute
	if err := proto.Unmarshal(text, &in); err != nil {
		return &mesh.HTTPRoute{}, err
	}
	var r reader
	route := r.route(&in)
	if fault := route.Fault(); r.err == nil && fault != "" {
		r.fail("%s", fault)
	}
	if r.err == nil {
		return route, nil
	}
	route.Rules = []mesh.HTTPRule{{Matches: []mesh.HTTPMatch{{Path: "/"}}, Problem: "the gateway could not read the route"}}
	if route.Fault() != "" { // not even whose it is, and for whom
		route = &mesh.HTTPRoute{}
	}
	return route, r.err
}

// gatewayReader reads a gateway, and keeps what was wrong with single parts of it.
type gatewayReader struct {
	reader
	parts []string
}

// part notes that something stands in for a part of the gateway.
func (r *gatewayReader) part(format string, args ...any) {
	if len(r.parts) < maxReasons {
		r.parts = append(r.parts, fmt.Sprintf(format, args...))
	}
}

// splitRoutes takes the routes out of a Gateway's bytes. They are parts of body; what is left is not.
func splitRoutes(body []byte) (rest []byte, routes [][]byte, err error) {
	for len(body) > 0 {
		number, kind, n := protowire.ConsumeTag(body)
		if n < 0 {
			return nil, nil, fmt.Errorf("gateway: %w", protowire.ParseError(n))
		}
		size := protowire.ConsumeFieldValue(number, kind, body[n:])
		if size < 0 {
			return nil, nil, fmt.Errorf("gateway: field %d: %w", number, protowire.ParseError(size))
		}
		field := body[:n+size]
		body = body[n+size:]
		if number != gatewayRoutes || kind != protowire.BytesType {
			rest = append(rest, field...)
			continue
		}
		route, _ := protowire.ConsumeBytes(field[n:]) // it was consumed before
		routes = append(routes, route)
	}
	return rest, routes, nil
}
