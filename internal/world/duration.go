// SPDX-License-Identifier: Apache-2.0

package world

import (
	"time"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// Duration reads a duration of the Gateway API (GEP-2257), which the API server checked; 0 for none or for what cannot be read.
func Duration(d *gatewayv1.Duration) time.Duration {
	if d == nil {
		return 0
	}
	out, err := time.ParseDuration(string(*d))
	if err != nil || out < 0 {
		return 0
	}
	return out
}
