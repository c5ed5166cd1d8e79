// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/go-logr/logr"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// wireOf is the encoding of a response with one of each resource that addresses and policies are made of.
func wireOf(t testing.TB, url string, values ...value) []byte {
	t.Helper()
	r := &response{url: url, nonce: "7", removed: []string{"gone", "n/too"}, partial: true}
	for _, v := range values {
		_, body, err := encodeValue(v)
		if err != nil {
			t.Fatal(err)
		}
		e, err := newEntry(v.kind(), v.name(), body, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.entries = append(r.entries, e)
	}
	return wireOfResponse(t, r)
}

func wireOfResponse(t testing.TB, r *response) []byte {
	t.Helper()
	parts, err := newCodec().Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return parts.Materialize()
}

// TestMessagesAreReadAsProtobufSays has what clients read of a response by themselves, and what the generated code reads.
func TestMessagesAreReadAsProtobufSays(t *testing.T) {
	field := func(number protowire.Number, parts ...string) string {
		return string(protowire.AppendString(protowire.AppendTag(nil, number, protowire.BytesType), strings.Join(parts, "")))
	}
	for name, body := range map[string]string{
		"ours":                               string(wireOf(t, addressURL, value{workload: samplePod()}, value{service: sampleService()})),
		"nothing":                            "",
		"a type twice":                       field(responseType, "a") + field(responseType, "b"),
		"a nonce that is emptied":            field(responseNonce, "a") + field(responseNonce),
		"a resource without content":         field(responseResources, field(resourceName, "n")),
		"content in parts":                   field(responseResources, field(resourceContent, field(contentType, "t")), field(resourceContent, field(contentValue, "v"))),
		"content of nothing":                 field(responseResources, field(resourceContent)),
		"aliases":                            field(responseResources, field(resourceAliases, "a"), field(resourceAliases, "b")),
		"fields that are not known":          field(77, "x") + "\x09eight by" + "\x0dfour" + "\x08\x01" + field(responseNonce, "n"),
		"a group":                            "\x9b\x06" + field(responseNonce, "n") + "\x9c\x06",
		"a nonce that is a number":           "\x28\x05",
		"a type that is not UTF-8":           field(responseType, "\xff"),
		"a name that is not UTF-8":           field(responseResources, field(resourceName, "\xff")),
		"an alias that is not UTF-8":         field(responseResources, field(resourceAliases, "\xff")),
		"a type of content that is no UTF-8": field(responseResources, field(resourceContent, field(contentType, "\xff"))),
		"a removed name that is not UTF-8":   field(responseRemoved, "\xff"),
		"content that is not UTF-8":          field(responseResources, field(resourceContent, field(contentValue, "\xff"))),
		"a field without a number":           "\x02\x00",
		"a number that is none":              string(protowire.AppendVarint(nil, (1<<29)<<3|2)) + "\x00",
		"the end of no group":                "\x9c\x06",
		"a group without an end":             "\x9b\x06",
		"a length beyond the end":            "\x22\x05x",
		"a resource that is cut":             field(responseResources, "\x1a\x05x"),
		"content that is cut":                field(responseResources, field(resourceContent, "\x0a\x05x")),
		"a wire type that is none":           "\x27",
	} {
		t.Run(name, func(t *testing.T) { sameAsProtobuf(t, []byte(body)) })
	}
}

// sameAsProtobuf reads a message both ways.
func sameAsProtobuf(t *testing.T, body []byte) {
	t.Helper()
	m, err := readMessage(body)
	var want discovery.DeltaDiscoveryResponse
	wantErr := proto.Unmarshal(body, &want)
	if err != nil {
		if wantErr == nil {
			t.Fatalf("refused, with %v, and is a message: %v", err, &want)
		}
		return
	}
	if wantErr != nil {
		// What is passed over is not judged: without it, it must be a message.
		if err := proto.Unmarshal(judged(body), &want); err != nil {
			t.Fatalf("read as %+v, and is none: %v", m, err)
		}
	}
	if m.url != want.GetTypeUrl() || m.nonce != want.GetNonce() || m.says != want.GetSystemVersionInfo() {
		t.Errorf("type %q, nonce %q, says %q; want %v", m.url, m.nonce, m.says, &want)
	}
	var removed []string
	m.eachRemoved(func(name []byte) { removed = append(removed, string(name)) })
	if !reflect.DeepEqual(removed, want.GetRemovedResources()) || m.removed != len(removed) {
		t.Errorf("removed %d, %q; want %q", m.removed, removed, want.GetRemovedResources())
	}
	if m.resources != len(want.GetResources()) {
		t.Errorf("%d resources, want %d", m.resources, len(want.GetResources()))
	}
	i := 0
	m.eachResource(func(r resource) {
		w := want.GetResources()[i]
		i++
		if string(r.name) != w.GetName() || string(r.version) != w.GetVersion() || r.content != (w.GetResource() != nil) ||
			string(r.url) != w.GetResource().GetTypeUrl() || !bytes.Equal(r.value, w.GetResource().GetValue()) {
			t.Errorf("resource %+v, want %v", r, w)
		}
	})
}

// judged is a message without the messages in it that nobody reads.
func judged(body []byte) (out []byte) {
	keep := func(known ...protowire.Number) func(protowire.Number, []byte, []byte) []byte {
		return func(number protowire.Number, b, out []byte) []byte {
			for _, k := range known {
				if k == number {
					return protowire.AppendBytes(protowire.AppendTag(out, number, protowire.BytesType), b)
				}
			}
			return out
		}
	}
	_ = eachField(body, func(number protowire.Number, b []byte) error { // it was read before
		if number == responseResources {
			var inner []byte
			_ = eachField(b, func(number protowire.Number, b []byte) error {
				inner = keep(resourceName, resourceVersion, resourceAliases, resourceContent)(number, b, inner)
				return nil
			})
			b = inner
		}
		out = keep(responseSays, responseResources, responseType, responseNonce, responseRemoved)(number, b, out)
		return nil
	})
	return out
}

// FuzzMessage says that whatever is sent is read as the generated code reads it.
func FuzzMessage(f *testing.F) {
	f.Add(wireOf(f, addressURL, value{workload: samplePod()}, value{service: sampleService()}))
	f.Add(wireOf(f, authorizationURL, value{policy: samplePolicy()}))
	f.Add([]byte("\x9b\x06\x2a\x01n\x9c\x06\x12\x04\x12\x02\x0a\x00"))
	f.Fuzz(sameAsProtobuf)
}

// TestNothingOfAMessageIsKept: its bytes are used for the next one as soon as it was applied.
func TestNothingOfAMessageIsKept(t *testing.T) {
	c := NewClient(ClientOptions{Log: logr.Discard(), Types: []Type{Addresses(), Policies(), Bundles(), Gateway(mesh.GatewayKey{Namespace: "n", Name: "g"})}})
	for url, values := range map[string][]value{
		addressURL:       {{workload: samplePod()}, {workload: sampleSplitHorizon()}, {service: sampleService()}},
		authorizationURL: {{policy: samplePolicy()}},
		bundleURL:        {{bundle: sampleBundle()}},
		gatewayURL:       {{gateway: sampleGateway()}, {gateway: routedGateway("a", "b")}},
	} {
		body := wireOf(t, url, values...)
		var m message
		if err := newCodec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(body)}, &m); err != nil {
			t.Fatal(err)
		}
		got, holdings, reasons, bad := c.read(&m, nil)
		m.done()
		for i := range body {
			body[i] = 'x'
		}
		if bad > 0 {
			t.Fatal(reasons)
		}
		var want mesh.Delta
		for _, v := range values {
			include(&want, v)
			if h := holdings[v.name()]; h.kind != v.kind() || strings.Contains(h.version, "x") {
				t.Errorf("%s is held as %+v", v.name(), h)
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("of %s is kept %v, want %v", url, got, want)
		}
	}
}

// BenchmarkHear reads a message as it comes from the stream: one change, and a first answer of 4,000 workloads.
func BenchmarkHear(b *testing.B) {
	for _, n := range []int{1, 4000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			values := make([]value, 0, n)
			for i := range n {
				w := samplePod()
				w.UID = fmt.Sprintf("west//Pod/shop/cart-%d", i)
				values = append(values, value{workload: w})
			}
			wire := mem.BufferSlice{mem.SliceBuffer(wireOf(b, addressURL, values...))}
			c := NewClient(ClientOptions{Log: logr.Discard(), Types: []Type{Addresses()}})
			b.ReportAllocs()
			for b.Loop() {
				var m message
				if err := newCodec().Unmarshal(wire, &m); err != nil {
					b.Fatal(err)
				}
				if _, _, _, bad := c.read(&m, nil); bad > 0 {
					b.Fatal("a resource is refused")
				}
				m.done()
			}
		})
	}
}
