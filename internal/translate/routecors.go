// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// corsMaxAge is the API's default, in seconds.
const corsMaxAge = 5

// cors reads a filter for requests that scripts of other origins send. Names of headers stay as they were written, as nothing here compares them.
func cors(f *gatewayv1.HTTPCORSFilter) *mesh.CORS {
	out := &mesh.CORS{Credentials: f.AllowCredentials != nil && *f.AllowCredentials, MaxAge: corsMaxAge}
	if f.MaxAge > 0 {
		out.MaxAge = uint32(f.MaxAge)
	}
	for _, o := range f.AllowOrigins {
		out.Origins = append(out.Origins, strings.ToLower(string(o)))
	}
	for _, m := range f.AllowMethods {
		out.Methods = append(out.Methods, string(m))
	}
	for _, h := range f.AllowHeaders {
		out.Headers = append(out.Headers, string(h))
	}
	for _, h := range f.ExposeHeaders {
		out.Expose = append(out.Expose, string(h))
	}
	return out
}
