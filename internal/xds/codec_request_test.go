// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds/pb/gatewaypb"
	"github.com/isthmus-mesh/isthmus/internal/xds/pb/securitypb"
)

// TestUnknownRequests: a policy that asks something of requests that we do not know, however deep it stands, is refused as a whole. Without what it asks, an ALLOW policy would
// let in more.
func TestUnknownRequests(t *testing.T) {
	strange := protowire.AppendVarint(protowire.AppendTag(nil, 1000, protowire.VarintType), 1)
	exact := func() *securitypb.StringMatch {
		return &securitypb.StringMatch{MatchType: &securitypb.StringMatch_Exact{Exact: "/a"}}
	}
	whole := func() *gatewaypb.RequestMatch {
		return &gatewaypb.RequestMatch{
			Paths: []*securitypb.StringMatch{exact()}, Headers: []*gatewaypb.HeaderMatch{{Name: "X-Team", Values: []*securitypb.StringMatch{exact()}}},
		}
	}
	for name, change := range map[string]func(*gatewaypb.RequestMatch){
		"":             func(*gatewaypb.RequestMatch) {},
		"at the top":   func(m *gatewaypb.RequestMatch) { m.ProtoReflect().SetUnknown(strange) },
		"in a header":  func(m *gatewaypb.RequestMatch) { m.Headers[0].ProtoReflect().SetUnknown(strange) },
		"in a value":   func(m *gatewaypb.RequestMatch) { m.Headers[0].Values[0].ProtoReflect().SetUnknown(strange) },
		"in a pattern": func(m *gatewaypb.RequestMatch) { m.Paths[0].ProtoReflect().SetUnknown(strange) },
		"in a presence": func(m *gatewaypb.RequestMatch) {
			m.Paths[0].MatchType = &securitypb.StringMatch_Presence{}
			inner := protowire.AppendBytes(protowire.AppendTag(nil, 4, protowire.BytesType), strange)
			if err := proto.Unmarshal(inner, m.Paths[0]); err != nil {
				t.Fatal(err)
			}
		},
		"no pattern":                    func(m *gatewaypb.RequestMatch) { m.Paths[0].MatchType = nil },
		"an escape that is no template": func(m *gatewaypb.RequestMatch) { m.PathTemplates = []string{"/{x}"} },
		"a header of the connection":    func(m *gatewaypb.RequestMatch) { m.Headers[0].Name = "Transfer-Encoding" },
		"the host as a header":          func(m *gatewaypb.RequestMatch) { m.Headers[0].Name = "Host" },
		"a header in small letters":     func(m *gatewaypb.RequestMatch) { m.Headers[0].Name = "x-team" },
		"a host in capitals": func(m *gatewaypb.RequestMatch) {
			m.Hosts = []*securitypb.StringMatch{{MatchType: &securitypb.StringMatch_Exact{Exact: "A"}}}
		},
	} {
		m := whole()
		change(m)
		config, err := anypb.New(m)
		if err != nil {
			t.Fatal(err)
		}
		out := policyToProto(&mesh.Policy{Namespace: "shop", Name: "p", Rules: []mesh.PolicyRule{{Clauses: []mesh.PolicyClause{{Matches: []mesh.PolicyMatch{{}}}}}}})
		out.Rules[0].Clauses[0].Matches[0].Extensions = []*securitypb.Extension{{Name: requestExtension, Config: config}}
		if _, err := policyFromProto(out); (err != nil) != (name != "") {
			t.Errorf("what is strange stands %q: %v", name, err)
		}
	}
}
