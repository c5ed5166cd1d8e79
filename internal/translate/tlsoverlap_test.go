// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// TestOverlapsAreThoseOfPairs compares what is found by suffixes with a look at every pair.
func TestOverlapsAreThoseOfPairs(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	hosts := []string{"", "a.test", "b.a.test", "c.b.a.test", "ba.test", "b.ba.test", "*.test", "*.a.test", "*.b.a.test", "*.ba.test"}
	marked := 0
	for range 2000 {
		var all []listenerVerdict
		for _, port := range []uint16{443, 8443} {
			for _, i := range rng.Perm(len(hosts))[:rng.IntN(5)] { // no two at a port have the same: these are in conflict
				l := world.Listener{Port: port, Protocol: []string{protocolHTTPS, protocolTLS}[rng.IntN(2)], Hostname: hosts[i]}
				v := listenerVerdict{listener: l}
				switch rng.IntN(8) {
				case 0:
					v.listener.Protocol = protocolHTTP
				case 1:
					v.reason = gatewayv1.ListenerReasonUnsupportedValue
				case 2:
					v.set = &world.ListenerSet{}
				}
				all = append(all, v)
			}
		}
		g := &world.Gateway{}
		noteOverlaps(g, all)
		inForce := func(v listenerVerdict) bool { return v.reason == "" && v.listener.Protocol != protocolHTTP }
		for i, v := range all {
			want := inForce(v) && slices.ContainsFunc(all, func(o listenerVerdict) bool {
				return inForce(o) && o.listener.Port == v.listener.Port && o.listener.Hostname != v.listener.Hostname &&
					(o.listener.Hostname == "" || v.listener.Hostname == "" || mesh.HostnamesMeet(o.listener.Hostname, v.listener.Hostname))
			})
			if got := v.overlaps != ""; got != want {
				t.Fatalf("listener %d of %s overlaps: %t, want %t", i, listed(all), got, want)
			}
			if want {
				marked++
			}
		}
	}
	if marked < 1000 {
		t.Errorf("only %d listeners overlapped: nothing was shown", marked)
	}
}

func listed(all []listenerVerdict) string {
	var out []string
	for _, v := range all {
		out = append(out, v.listener.Protocol+" "+v.listener.Hostname+" "+string(v.reason))
	}
	return strings.Join(out, ", ")
}
