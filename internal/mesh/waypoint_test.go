// SPDX-License-Identifier: Apache-2.0

package mesh

import (
	"slices"
	"testing"
)

func TestRoutesFor(t *testing.T) {
	cart, till := ServiceKey{"shop", "cart.shop.svc.cluster.local"}, ServiceKey{"shop", "till.shop.svc.cluster.local"}
	routes := func(name string) []*HTTPRoute { return []*HTTPRoute{{Namespace: "n", Name: name}} }
	g := &Gateway{ServiceRoutes: []ServiceRoutes{
		{Service: cart, Routes: routes("all")},
		{Service: cart, Port: 80, Routes: routes("80")},
		{Service: cart, Consumer: "mobile", Routes: routes("mobile-all")},
		{Service: cart, Port: 81, Consumer: "mobile", Routes: routes("mobile-81")},
		{Service: till, Port: 80, Consumer: "mobile", Routes: routes("till")},
	}, Fronts: []ServiceKey{cart, till}}
	slices.SortFunc(g.ServiceRoutes, CompareServiceRoutes)
	for _, at := range []struct {
		service   ServiceKey
		port      uint16
		namespace string
		want      string // "": none
	}{
		{cart, 80, "other", "80"},
		{cart, 82, "other", "all"},
		{cart, 80, "", "80"}, // of another trust domain
		{cart, 81, "mobile", "mobile-81"},
		{cart, 80, "mobile", "mobile-all"}, // a consumer's own routes are all that counts for it
		{till, 80, "mobile", "till"},
		{till, 80, "other", ""},
		{till, 81, "mobile", ""},
		{ServiceKey{"shop", "else"}, 80, "mobile", ""},
	} {
		got := ""
		if of, ok := g.RoutesFor(at.service, at.port, at.namespace); ok {
			got = of.Routes[0].Name
		}
		if got != at.want {
			t.Errorf("%s:%d from %q: routes %q, want %q", at.service, at.port, at.namespace, got, at.want)
		}
	}
}
