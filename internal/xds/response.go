// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"fmt"
	"unicode/utf8"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// response is a DeltaDiscoveryResponse on its way out. Its resources are the bytes that the table holds: they were encoded once, when they changed, and
// go to all subscribers from there without being copied.
type response struct {
	url, nonce string
	entries    []*entry
	removed    []string
	partial    bool // not all is known yet
	more       bool // this is not the last part of the answer
}

// What a response says in system_version_info, so that a subscriber can tell an answer that lacks what is not known yet from one that is all there is.
const (
	saysComplete = "complete"
	saysPartial  = "partial"
	saysMore     = "partial; more follows"
)

// completeness is what the response says of itself.
func (r *response) completeness() string {
	switch {
	case r.more:
		return saysMore
	case r.partial:
		return saysPartial
	}
	return saysComplete
}

// resourcesField is the number of DeltaDiscoveryResponse.resources (discovery.md, part 2).
const resourcesField = 2

// resourceWire is a resource as a field of a response: tag, length, content.
func resourceWire(r *discovery.Resource) ([]byte, error) {
	body, err := marshal.Marshal(r)
	if err != nil {
		return nil, err
	}
	wire := make([]byte, 0, len(body)+2+protowire.SizeVarint(uint64(len(body))))
	wire = protowire.AppendTag(wire, resourcesField, protowire.BytesType)
	return protowire.AppendBytes(wire, body), nil
}

// buffers is the message. What it gives must not be written to.
func (r *response) buffers() (mem.BufferSlice, error) {
	head, err := r.head()
	if err != nil {
		return nil, err
	}
	out := make(mem.BufferSlice, 0, 1+len(r.entries))
	out = append(out, mem.SliceBuffer(head))
	for _, e := range r.entries {
		out = append(out, e.wire)
	}
	return out, nil
}

// head is all but the resources, which follow it: the fields of a message may come in any order and in parts (protobuf encoding, "Order"). It is written here, and not by the
// generated code, because each subscriber has one of its own.
func (r *response) head() ([]byte, error) {
	says := r.completeness()
	size := len(says) + len(r.url) + len(r.nonce) + 3*maxFieldHead
	for _, name := range r.removed {
		size += len(name) + maxFieldHead
	}
	head := make([]byte, 0, size)
	for _, f := range [...]struct {
		number protowire.Number
		value  string
	}{{responseSays, says}, {responseType, r.url}, {responseNonce, r.nonce}} {
		if f.value != "" {
			head = protowire.AppendString(protowire.AppendTag(head, f.number, protowire.BytesType), f.value)
		}
	}
	for _, name := range r.removed {
		if !utf8.ValidString(name) { // a subscriber gave it, and gRPC's codec takes no such request
			return nil, fmt.Errorf("encode a response of %s: a name that is removed: %w", short(r.url), errNotUTF8)
		}
		head = protowire.AppendString(protowire.AppendTag(head, responseRemoved, protowire.BytesType), name)
	}
	return head, nil
}

// maxFieldHead is how many bytes are before a field's value: its tag, and a length below 2²⁸.
const maxFieldHead = 5

// size is how many bytes the message has at least.
func (r *response) size() (bytes int64) {
	for _, e := range r.entries {
		bytes += int64(e.wire.Len())
	}
	for _, name := range r.removed {
		bytes += int64(len(name))
	}
	return bytes
}

// codec is gRPC's codec of protobuf messages, which also takes a *response and gives a *message.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(proto.Name)} }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if r, ok := v.(*response); ok {
		return r.buffers()
	}
	return c.CodecV2.Marshal(v)
}

// Unmarshal implements encoding.CodecV2. Who asks for a *message calls its done.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*message)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	buffer := data.MaterializeToBuffer(mem.DefaultBufferPool())
	read, err := readMessage(buffer.ReadOnlyData())
	if err != nil {
		buffer.Free()
		return err
	}
	read.buffer = buffer
	*m = read
	return nil
}
