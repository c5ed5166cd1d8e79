// SPDX-License-Identifier: Apache-2.0

package reach

import (
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestForAnotherPod(t *testing.T) {
	self := &mesh.Workload{Namespace: "shop", Name: "cart-1"}
	for value, want := range map[string]bool{
		PodName(self): false, "shop/cart-2": true, "depot/cart-1": true,
		"": false, "shop": false, "/": false, "shop/": false, "/cart-2": false, "shop/cart/2": false,
		"shop/" + strings.Repeat("a", 253): true, "shop/" + strings.Repeat("a", 254): false, strings.Repeat("a", 64) + "/cart-2": false,
	} {
		if got := ForAnotherPod(value, self); got != want {
			t.Errorf("%.80q: %v, want %v", value, got, want)
		}
	}
}

func FuzzForAnotherPod(f *testing.F) {
	f.Add("shop/cart-2")
	f.Fuzz(func(t *testing.T, value string) {
		namespace, name, _ := strings.Cut(value, "/")
		if ForAnotherPod(value, &mesh.Workload{Namespace: namespace, Name: name}) {
			t.Errorf("%q names another than itself", value)
		}
	})
}
