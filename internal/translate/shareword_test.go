// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"testing"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// TestSharesAreNotToldInNumbers: they are others with each listener of another namespace, and what is said of one namespace's sets is not: all of their statuses would be written again.
func TestSharesAreNotToldInNumbers(t *testing.T) {
	for _, kind := range []string{"listeners", "ports", "bytes"} {
		s := newUnreadScene(t)
		s.put(&world.Gateway{Key: inDemo("gw"), Class: ClassEastWest, SetsFrom: string(gatewayv1.NamespacesFromAll), Listeners: []world.Listener{{Name: "own", Port: 80, Protocol: protocolHTTP, Hostname: "own.example.com"}}})
		set := func(namespace string, i, listeners int) *world.ListenerSet {
			of := &world.ListenerSet{Key: world.Key{Cluster: "east", Namespace: namespace, Name: fmt.Sprint("set", i)}, Created: int64(i + 1), Gateway: inDemo("gw")}
			for j := range listeners {
				l := hostNumbered(64*i + j)
				switch kind {
				case "ports":
					l.Port = uint16(2000 + 64*i + j)
				case "bytes":
					l = world.Listener{Port: 443, Protocol: protocolHTTPS, TLSMode: tlsTerminate, HasTLS: true, Hostname: l.Hostname, Certificates: []world.SecretRef{{Kind: "Secret", Namespace: namespace, Name: "large"}}}
				}
				l.Name = fmt.Sprint("l", j)
				of.Listeners = append(of.Listeners, l)
			}
			return of
		}
		d := world.NewDelta()
		for _, namespace := range []string{"mallory", "carol", "dave", "erin", "web"} {
			large := secretOf("large")
			large.Namespace, large.Chain = namespace, string(make([]byte, 1<<20))
			d.Put(large)
		}
		n := map[string]int{"listeners": 64, "ports": 16, "bytes": 4}[kind]
		for i := range 12 {
			d.Put(set("mallory", i, n))
		}
		for i, namespace := range []string{"carol", "dave", "erin"} {
			d.Put(set(namespace, 20+i, n))
		}
		s.Apply(d)
		refused := 0
		for _, f := range s.Output().Findings[set("mallory", 11, 0).Ref()] {
			if f.Type == accepted && f.Status == isFalse {
				refused++
			}
		}
		if refused < n {
			t.Fatalf("%s: %d listeners are refused", kind, refused)
		}
		d = world.NewDelta()
		d.Put(set("web", 99, 1))
		changed := 0
		for ref := range s.Apply(d).Findings {
			if ref.Kind == world.KindListenerSet && ref.Namespace == "mallory" {
				changed++
			}
		}
		if changed > 2 { // those whose listener had to go
			t.Errorf("%s: one listener of another namespace has the statuses of %d sets written", kind, changed)
		}
	}
}
