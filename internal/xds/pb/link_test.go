// SPDX-License-Identifier: Apache-2.0

package pb

import (
	"testing"

	"google.golang.org/protobuf/proto"
	_ "istio.io/api/security/v1beta1" // linked into the controller beside ours

	"github.com/isthmus-mesh/isthmus/internal/xds/pb/authpb"
	"github.com/isthmus-mesh/isthmus/internal/xds/pb/gatewaypb"
	"github.com/isthmus-mesh/isthmus/internal/xds/pb/securitypb"
	"github.com/isthmus-mesh/isthmus/internal/xds/pb/trustpb"
	"github.com/isthmus-mesh/isthmus/internal/xds/pb/workloadpb"
)

// Two packages that register one message name cannot be in one binary: this test would not even start. And the names
// are on the wire.
func TestNames(t *testing.T) {
	for want, m := range map[string]proto.Message{
		"istio.workload.Address":                &workloadpb.Address{},
		"istio.security.Authorization":          &securitypb.Authorization{},
		"istio.v1.auth.IstioCertificateRequest": &authpb.IstioCertificateRequest{},
		"isthmus.gateway.v1.Gateway":            &gatewaypb.Gateway{},
		"isthmus.trust.v1.Bundle":               &trustpb.Bundle{},
	} {
		if got := string(m.ProtoReflect().Descriptor().FullName()); got != want {
			t.Errorf("message is called %s, want %s", got, want)
		}
	}
	if got, want := authpb.IstioCertificateService_CreateCertificate_FullMethodName, "/istio.v1.auth.IstioCertificateService/CreateCertificate"; got != want {
		t.Errorf("method is called %s, want %s", got, want)
	}
}
