// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds/pb/gatewaypb"
)

func corsToProto(in *mesh.CORS) *gatewaypb.CORS {
	if in == nil {
		return nil
	}
	return &gatewaypb.CORS{Origins: in.Origins, Credentials: in.Credentials, Methods: in.Methods, Headers: in.Headers, Expose: in.Expose, MaxAge: in.MaxAge}
}

func (r *reader) cors(in *gatewaypb.CORS) *mesh.CORS {
	if in == nil {
		return nil
	}
	return &mesh.CORS{
		Origins: r.texts("CORS origins", in.GetOrigins(), maxName), Credentials: in.GetCredentials(),
		Methods: r.texts("CORS methods", in.GetMethods(), maxName), Headers: r.texts("CORS headers", in.GetHeaders(), maxValue),
		Expose: r.texts("CORS headers to expose", in.GetExpose(), maxValue), MaxAge: in.GetMaxAge(),
	}
}
