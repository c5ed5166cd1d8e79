// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"math"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds/pb/gatewaypb"
)

func retryToProto(in *mesh.HTTPRetry) *gatewaypb.HTTPRetry {
	if in == nil {
		return nil
	}
	out := &gatewaypb.HTTPRetry{Attempts: in.Attempts, Backoff: int64(in.Backoff)}
	for _, c := range in.Codes {
		out.Codes = append(out.Codes, uint32(c))
	}
	return out
}

func retryFromProto(in *gatewaypb.HTTPRetry) *mesh.HTTPRetry {
	if in == nil {
		return nil
	}
	out := &mesh.HTTPRetry{Attempts: in.GetAttempts(), Backoff: time.Duration(in.GetBackoff())}
	for _, c := range in.GetCodes() {
		out.Codes = append(out.Codes, uint16(min(c, math.MaxUint16)))
	}
	return out
}
