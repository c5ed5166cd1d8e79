// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"math"
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// retry reads what a rule says of failed attempts. Codes that are no failures are left out, as they would be by the API server.
func retry(r *gatewayv1.HTTPRouteRetry) *mesh.HTTPRetry {
	if r == nil {
		return nil
	}
	out := &mesh.HTTPRetry{Attempts: 1, Backoff: world.Duration(r.Backoff)}
	if r.Attempts != nil {
		out.Attempts = uint32(min(max(*r.Attempts, 0), math.MaxUint16))
	}
	for _, c := range r.Codes {
		if c >= 400 && c <= 599 {
			out.Codes = append(out.Codes, uint16(c))
		}
	}
	slices.Sort(out.Codes)
	out.Codes = slices.Compact(out.Codes)
	return out
}
