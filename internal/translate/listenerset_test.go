// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"strings"
	"testing"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// bankSet is a set with a listener for one hostname, which is proved by a Secret of its own name.
func bankSet(name string, created int64) *world.ListenerSet {
	return &world.ListenerSet{Key: inDemo(name), Created: created, Gateway: inDemo("gw"), Listeners: []world.Listener{{
		Name: "bank", Port: 443, Protocol: protocolHTTPS, HasTLS: true, TLSMode: tlsTerminate, Hostname: "bank.example.com",
		Certificates: []world.SecretRef{{Kind: "Secret", Namespace: "demo", Name: name}},
	}}}
}

// A hostname is that of the oldest set that has a certificate for it. Who has none holds it only against those that have none either, and nobody is in conflict because of
// what was not read yet.
func TestListenerWithoutCertificateYields(t *testing.T) {
	s := newUnreadScene(t)
	gateway := s.gateway("", "")
	gateway.SetsFrom = string(gatewayv1.NamespacesFromAll)
	gateway.Listeners = []world.Listener{{Name: "http", Port: 80, Protocol: protocolHTTP}}
	says := func() string {
		out := s.Output()
		var lines []string
		for _, l := range out.Mesh.Gateways[mesh.GatewayKey{Namespace: "demo", Name: "gw"}].Listeners[1:] {
			lines = append(lines, fmt.Sprintf("%s %d", l.Name, len(l.Certificates)))
		}
		for _, name := range []string{"old", "young", "tcp"} {
			for _, f := range out.Findings[world.ObjectRef{Kind: world.KindListenerSet, Key: inDemo(name)}] {
				if f.Listener != "" && (f.Type == accepted && f.Status != isTrue || f.Type == conflicted && f.Status == isTrue) {
					lines = append(lines, fmt.Sprintf("%s %s=%s %s", name, f.Type, f.Status, f.Reason))
				}
			}
		}
		return strings.Join(lines, "; ")
	}
	want := func(step, want string) {
		t.Helper()
		if got := says(); got != want {
			t.Errorf("%s: %s\nwant %s", step, got, want)
		}
	}
	const youngLost, oldLost = "young Accepted=False HostnameConflict; young Conflicted=True HostnameConflict", "old Accepted=False HostnameConflict; old Conflicted=True HostnameConflict"
	absent := func(name string) world.Object { return world.NewAbsent(secretOf(name).Ref()) }
	s.put(gateway, bankSet("young", 2), secretOf("young"))
	want("alone", "demo/young/bank 1")
	s.put(bankSet("old", 1))
	want("an older one whose certificate was not read yet", "demo/young/bank 1; old Accepted=False Pending")
	s.put(absent("old"))
	want("there is none", "demo/young/bank 1; "+oldLost)
	s.put(secretOf("old"))
	want("it has one", "demo/old/bank 1; "+youngLost)
	s.put(absent("young"), absent("old"))
	want("neither has", "demo/old/bank 0; "+youngLost)

	// What stands beside nothing else keeps its port to itself, whether it has a certificate or not: ports are no hostnames.
	tcp := &world.ListenerSet{Key: inDemo("tcp"), Created: 3, Gateway: inDemo("gw"), Listeners: []world.Listener{{Name: "l", Port: 443, Protocol: protocolTCP}}}
	s.put(tcp)
	want("another protocol", "demo/old/bank 0; "+youngLost+"; tcp Accepted=False ProtocolConflict; tcp Conflicted=True ProtocolConflict")

	// The Gateway's own come before all sets: with a certificate of one's own nobody takes a hostname from it.
	own := bankSet("own", 0).Listeners[0]
	gateway.Listeners = append(gateway.Listeners, own)
	again := *gateway
	s.put(&again, absent("own"), secretOf("old"))
	if got := says(); !strings.HasPrefix(got, "bank 0; "+oldLost) {
		t.Errorf("beside a Gateway that has none: %s", got)
	}
}
