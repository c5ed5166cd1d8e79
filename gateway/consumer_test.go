// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"net/http"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// A waypoint that is in front of another namespace's service for its own namespace's callers lets in nobody else to it, also while the service leaves it.
func TestWaypointForConsumers(t *testing.T) {
	s := newScene(t, nil)
	s.add(s.requestPod(1))
	s.configure(waypointOf(nil))
	c := newConfig(&mesh.Gateway{
		Namespace: thiefID.Namespace, Name: "isthmus-waypoint", Service: mesh.ServiceKey{Namespace: thiefID.Namespace, Hostname: "isthmus-waypoint"},
		Fronts: []mesh.ServiceKey{cartKey}, Consumed: []mesh.ServiceKey{cartKey},
	}, "west", clientID.TrustDomain, nil)
	stranger := thiefID
	stranger.TrustDomain = "elsewhere"
	c.domains[stranger.TrustDomain] = struct{}{}
	left := partings{}
	left.note(c.gateway, &mesh.Gateway{Namespace: c.gateway.Namespace, Service: c.gateway.Service}, s.server.o.Now())
	leaving := newConfig(left.with(&mesh.Gateway{Namespace: c.gateway.Namespace, Service: c.gateway.Service}), "west", clientID.TrustDomain, nil)
	for _, test := range []struct {
		name   string
		config *config
		peer   mesh.Identity
		reason Reason
	}{
		{"of its namespace", c, thiefID, ""},
		{"of another one", c, clientID, ReasonNotConsumer},
		{"of one that is called so in another trust domain", c, stranger, ReasonNotConsumer},
		{"of its namespace, while the service leaves", leaving, thiefID, ""},
		{"of another one, while the service leaves", leaving, clientID, ReasonNotConsumer},
	} {
		_, refusal := test.config.resolve(s.live.Load(), test.peer, "10.96.0.7:80")
		if test.reason == "" && refusal != nil || test.reason != "" && (refusal == nil || refusal.Reason != test.reason || refusal.Status != http.StatusUnauthorized) {
			t.Errorf("%s: %v", test.name, refusal)
		}
	}
}
