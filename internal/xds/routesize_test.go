// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// TestRouteSize: a route takes no more on the wire than it says, nor a small part of that: what waypoints are told is bounded by it.
func TestRouteSize(t *testing.T) {
	routes := []*mesh.HTTPRoute{{}}
	for _, l := range sampleListeners() {
		routes = append(routes, l.Routes...)
	}
	large := &mesh.HTTPRoute{Namespace: "shop", Name: "large", Created: 1 << 62}
	for range 16 {
		rule := mesh.HTTPRule{Name: strings.Repeat("n", 253), Problem: strings.Repeat("p", 4096), RequestTimeout: time.Hour * 24 * 365, Retry: &mesh.HTTPRetry{}}
		for range 64 {
			rule.Matches = append(rule.Matches, mesh.HTTPMatch{Path: "/" + strings.Repeat("a", 1023), Exact: true, Method: "DELETE", Headers: []mesh.NameValue{{Name: "A", Value: strings.Repeat("v", 4096)}}})
		}
		for range 16 {
			rule.Backends = append(rule.Backends, mesh.HTTPBackend{Problem: strings.Repeat("p", 300), Weight: 1 << 31, Filters: mesh.HTTPFilters{Mirrors: []mesh.HTTPMirror{{Numerator: 1 << 31, Denominator: 1 << 31}}}})
		}
		large.Rules = append(large.Rules, rule)
	}
	for _, r := range append(routes, large) {
		if wire := proto.Size(routeToProto(r)); r.Size() < wire || r.Size() > 4*wire+64 {
			t.Errorf("route %s takes %d bytes, and says %d", r.Key(), wire, r.Size())
		}
	}
}
