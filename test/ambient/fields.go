// SPDX-License-Identifier: Apache-2.0

package ambient

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// message is a protobuf message that is being written.
type message []byte

func (m *message) bytes(number protowire.Number, b []byte) {
	*m = protowire.AppendBytes(protowire.AppendTag(*m, number, protowire.BytesType), b)
}

// text writes a string, which proto3 leaves out when it is empty.
func (m *message) text(number protowire.Number, s string) {
	if s != "" {
		m.bytes(number, []byte(s))
	}
}

func (m *message) texts(number protowire.Number, list []string) {
	for _, s := range list {
		m.bytes(number, []byte(s))
	}
}

func (m *message) number(number protowire.Number, v uint64) {
	*m = protowire.AppendVarint(protowire.AppendTag(*m, number, protowire.VarintType), v)
}

// entries writes a map<string, string>: key = 1, value = 2.
func (m *message) entries(number protowire.Number, list map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(list)) {
		var entry message
		entry.text(1, key)
		entry.text(2, list[key])
		m.bytes(number, entry)
	}
}

// properties writes a google.protobuf.Struct of strings: fields = 1, a map to Value, whose string_value = 3.
func properties(list map[string]string) message {
	var m message
	for _, key := range slices.Sorted(maps.Keys(list)) {
		var value, entry message
		value.bytes(3, []byte(list[key]))
		entry.text(1, key)
		entry.bytes(2, value)
		m.bytes(1, entry)
	}
	return m
}

// field is one occurrence of a field.
type field struct {
	bytes  []byte // of a length-delimited one
	number uint64 // of a varint
}

// fields are those of a message that was read, by number, in the order in which they came.
type fields map[protowire.Number][]field

// parse reads a message. Groups and fixed-width fields do not occur in any of ours.
func parse(b []byte) (fields, error) {
	out := fields{}
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		b = b[n:]
		var f field
		switch kind {
		case protowire.VarintType:
			f.number, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			f.bytes, n = protowire.ConsumeBytes(b)
		default:
			return nil, fmt.Errorf("field %d has wire type %d", number, kind)
		}
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		b = b[n:]
		out[number] = append(out[number], f)
	}
	return out, nil
}

// last is the occurrence that counts where a field is not repeated.
func (f fields) last(number protowire.Number) field {
	if list := f[number]; len(list) > 0 {
		return list[len(list)-1]
	}
	return field{}
}

func (f fields) text(number protowire.Number) string { return string(f.last(number).bytes) }

func (f fields) texts(number protowire.Number) []string {
	var out []string
	for _, v := range f[number] {
		out = append(out, string(v.bytes))
	}
	return out
}

func (f fields) has(number protowire.Number) bool { return len(f[number]) > 0 }

func (f fields) or(number protowire.Number, otherwise string) string {
	if s := f.text(number); s != "" {
		return s
	}
	return otherwise
}

// raw is gRPC's codec for messages that are bytes already.
type raw struct{}

// Marshal implements encoding.CodecV2.
func (raw) Marshal(v any) (mem.BufferSlice, error) {
	b, ok := v.(message)
	if !ok {
		return nil, fmt.Errorf("cannot send a %T", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(b)}, nil
}

// Unmarshal implements encoding.CodecV2.
func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return errors.New("messages are read into bytes")
	}
	*b = data.Materialize()
	return nil
}

// Name implements encoding.CodecV2.
func (raw) Name() string { return "proto" }

var _ encoding.CodecV2 = raw{}
