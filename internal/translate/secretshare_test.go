// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

func TestShareOfSecrets(t *testing.T) {
	for _, tc := range []struct {
		wanted     []int
		most, want int
	}{
		{[]int{1, 2, 3}, 6, 0},
		{[]int{100}, 10, 10},
		{[]int{1, 100}, 10, 9},
		{[]int{5, 5, 100, 100}, 30, 10},
		{[]int{100, 100, 100}, 30, 10},
		{[]int{2, 2, 2}, 2, 1}, // each has one, whatever it takes
	} {
		d := newSecretDemand(0)
		for i, n := range tc.wanted {
			for j := range n {
				d.take(fmt.Sprint(i), world.ObjectRef{Kind: world.KindSecret, Key: world.Key{Name: fmt.Sprint(i, "-", j)}})
			}
		}
		if got := d.share(tc.most); got != tc.want {
			t.Errorf("%v of %d: each may have %d, want %d", tc.wanted, tc.most, got, tc.want)
		}
	}
}

// A namespace whose Gateways refer to more Secrets than are read takes nothing from others, and is told which limit it met: its oldest Gateways keep theirs.
func TestSecretsOfOneNamespace(t *testing.T) {
	x := newIndex(testConfig)
	x.maxSecrets = 10
	d := world.NewDelta()
	d.Put(&world.GatewayClass{Key: world.Key{Cluster: "east", Name: ClassEastWest}, Controller: ControllerName})
	gateway := func(namespace, name string, created int64, secrets int) *world.Gateway {
		g := &world.Gateway{Key: world.Key{Cluster: "east", Namespace: namespace, Name: name}, Class: ClassEastWest, Created: created}
		l := world.Listener{Name: "web", Port: 443, Protocol: protocolHTTPS, HasTLS: true, TLSMode: tlsTerminate}
		for i := range secrets {
			l.Certificates = append(l.Certificates, world.SecretRef{Kind: "Secret", Namespace: namespace, Name: fmt.Sprint(name, i)})
		}
		g.Listeners = []world.Listener{l}
		d.Put(g)
		return g
	}
	old, young := gateway("greedy", "old", 1, 5), gateway("greedy", "young", 3, 50)
	modest := gateway("modest", "gw", 2, 2)
	x.fold(d, newTouched())
	out := x.gateways()
	count := map[string]int{}
	for k := range out.wanted {
		count[k.Namespace]++
	}
	if count["greedy"] != 8 || count["modest"] != 2 {
		t.Errorf("read are %v, want 8 of greedy and 2 of modest", count)
	}
	said := func(g *world.Gateway) bool {
		for _, f := range out.findings[g.Ref()] {
			if f.Listener == "web" && f.Type == resolvedRefs && strings.Contains(f.Message, "all namespaces refer to more than 10 Secrets and ConfigMaps, of which the 8 that namespace greedy may have are taken") {
				return true
			}
		}
		return false
	}
	if said(old) || said(modest) || !said(young) {
		t.Errorf("the limit is named on old: %v, on modest: %v, on young: %v; want it on young alone", said(old), said(modest), said(young))
	}
}
