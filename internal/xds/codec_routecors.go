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

func corsFromProto(in *gatewaypb.CORS) *mesh.CORS {
	if in == nil {
		return nil
	}
	return &mesh.CORS{
		Origins: in.GetOrigins(), Credentials: in.GetCredentials(), Methods: in.GetMethods(), Headers: in.GetHeaders(), Expose: in.GetExpose(), MaxAge: in.GetMaxAge(),
	}
}
