// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds/pb/gatewaypb"
)

// maxRetryCodes is how many statuses from 400 to 599 there are.
const maxRetryCodes = 200

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

func (r *reader) retry(in *gatewaypb.HTTPRetry) *mesh.HTTPRetry {
	if in == nil || !r.count("retry codes", len(in.GetCodes()), maxRetryCodes) {
		return nil
	}
	out := &mesh.HTTPRetry{Attempts: in.GetAttempts(), Backoff: r.duration("retry backoff", in.GetBackoff())}
	for _, c := range in.GetCodes() {
		if c < 400 || c > 599 {
			r.fail("retry has the code %d", c)
			return nil
		}
		out.Codes = append(out.Codes, uint16(c))
	}
	return out
}
