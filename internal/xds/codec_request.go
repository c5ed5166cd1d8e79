// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"net/textproto"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds/pb/gatewaypb"
	"github.com/isthmus-mesh/isthmus/internal/xds/pb/securitypb"
)

// requestExtension is the name of the extension of a match that is about requests. Whoever does not know it refuses the policy, as it must: without it an ALLOW policy
// would let in more.
const requestExtension = "isthmus.request"

// requestToProto gives the extension, or nothing.
func requestToProto(m *mesh.RequestMatch) []*securitypb.Extension {
	if m == nil {
		return nil
	}
	out := &gatewaypb.RequestMatch{
		Hosts: stringsToProto(m.Hosts), NotHosts: stringsToProto(m.NotHosts), Methods: stringsToProto(m.Methods), NotMethods: stringsToProto(m.NotMethods),
	}
	out.Paths, out.PathTemplates = pathsToProto(m.Paths)
	out.NotPaths, out.NotPathTemplates = pathsToProto(m.NotPaths)
	for _, h := range m.Headers {
		out.Headers = append(out.Headers, &gatewaypb.HeaderMatch{Name: h.Name, Values: stringsToProto(h.Values), NotValues: stringsToProto(h.NotValues)})
	}
	config := new(anypb.Any)
	if err := anypb.MarshalFrom(config, out, marshal); err != nil { // text that is no UTF-8, which no API server has: nobody reads this extension, nor the policy
		config = nil
	}
	return []*securitypb.Extension{{Name: requestExtension, Config: config}}
}

// pathsToProto gives templates apart from the others.
func pathsToProto(in []mesh.StringMatch) (others []*securitypb.StringMatch, templates []string) {
	var plain []mesh.StringMatch
	for _, m := range in {
		if m.Kind == mesh.MatchTemplate {
			templates = append(templates, m.Value)
		} else {
			plain = append(plain, m)
		}
	}
	return stringsToProto(plain), templates
}

// request reads the one extension that is known.
func (r *policyReader) request(in []*securitypb.Extension) *mesh.RequestMatch {
	if len(in) == 0 {
		return nil
	}
	if len(in) > 1 || in[0].GetName() != requestExtension {
		r.fail("match has the extension %q, which is not known", r.text("extension", in[len(in)-1].GetName(), maxName))
		return nil
	}
	var m gatewaypb.RequestMatch
	if err := in[0].GetConfig().UnmarshalTo(&m); err != nil {
		r.fail("extension %s: %w", requestExtension, err)
		return nil
	}
	if asksUnknown(m.ProtoReflect()) {
		r.fail("extension %s asks for something that is not known", requestExtension)
	}
	out := &mesh.RequestMatch{
		Hosts: r.strings("host", m.GetHosts()), NotHosts: r.strings("not_host", m.GetNotHosts()),
		Methods: r.strings("method", m.GetMethods()), NotMethods: r.strings("not_method", m.GetNotMethods()),
		Paths:    append(r.strings("path", m.GetPaths()), r.templates("path_template", m.GetPathTemplates())...),
		NotPaths: append(r.strings("not_path", m.GetNotPaths()), r.templates("not_path_template", m.GetNotPathTemplates())...),
	}
	for _, h := range m.GetHeaders() {
		if !r.spend(1) {
			return nil
		}
		name := r.must("header", h.GetName(), maxName)
		if name != textproto.CanonicalMIMEHeaderKey(name) || !mesh.HeaderJudged(name) {
			r.fail("header %q is none in its canonical form that policies can be about", name)
		}
		out.Headers = append(out.Headers, mesh.HeaderMatch{Name: name, Values: r.strings("header value", h.GetValues()), NotValues: r.strings("header not_value", h.GetNotValues())})
	}
	for _, hosts := range [][]mesh.StringMatch{out.Hosts, out.NotHosts} {
		for _, h := range hosts {
			if h.Value != strings.ToLower(h.Value) {
				r.fail("host %q is not in lower case", h.Value)
			}
		}
	}
	return out
}

// asksUnknown says whether there is a field in a message, however deep, that is not known. Without it, the message would mean something else.
func asksUnknown(m protoreflect.Message) bool {
	if len(m.GetUnknown()) > 0 {
		return true
	}
	found := false
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case field.Kind() != protoreflect.MessageKind:
		case field.IsList():
			for i := range v.List().Len() {
				found = found || asksUnknown(v.List().Get(i).Message())
			}
		default:
			found = asksUnknown(v.Message())
		}
		return !found
	})
	return found
}

func (r *policyReader) templates(field string, in []string) []mesh.StringMatch {
	if len(in) == 0 || !r.spend(len(in)) {
		return nil
	}
	out := make([]mesh.StringMatch, 0, len(in))
	for _, t := range in {
		if t = r.must(field, t, maxIdentity); !mesh.ValidTemplate(t) {
			r.fail("%s %q is none", field, t)
		}
		out = append(out, mesh.StringMatch{Kind: mesh.MatchTemplate, Value: t})
	}
	return out
}
