// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"testing"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// TestSetsDoNotShutAGateway: a Gateway that is refused goes on as before, whatever a set of somebody else's asks for. What its own listeners ask for, and is not served, shuts it.
func TestSetsDoNotShutAGateway(t *testing.T) {
	const unsupported = gatewayv1.ListenerReasonUnsupportedValue
	plain, filtered := world.Listener{Protocol: protocolHTTP}, world.Listener{Protocol: protocolHTTP, HasFilters: true}
	options := world.Listener{Protocol: protocolHTTPS, TLSOptions: map[string]string{"gateway.istio.io/tls-terminate-mode": "MUTUAL"}}
	set := &world.ListenerSet{}
	for name, tc := range map[string]struct {
		asks listenerVerdict
		want bool
	}{
		"filters of its own":                         {listenerVerdict{listener: filtered, reason: unsupported}, true},
		"options of its own":                         {listenerVerdict{listener: options, reason: unsupported}, true},
		"something else of its own":                  {listenerVerdict{listener: plain, reason: unsupported}, false},
		"filters of a set":                           {listenerVerdict{listener: filtered, set: set, reason: unsupported}, false},
		"options of a set":                           {listenerVerdict{listener: options, set: set, reason: unsupported}, false},
		"clients that nobody can judge":              {listenerVerdict{listener: plain, reason: gatewayv1.ListenerReasonNoValidCACertificate}, true},
		"filters of a listener that is refused, too": {listenerVerdict{listener: filtered, reason: gatewayv1.ListenerReasonPortUnavailable}, false},
	} {
		at := &gate{judged: &judged{verdicts: []listenerVerdict{{listener: plain}, tc.asks}}}
		if got := at.shuts(); got != tc.want {
			t.Errorf("%s: shut %v, want %v", name, got, tc.want)
		}
	}
}
