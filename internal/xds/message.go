// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// message is a DeltaDiscoveryResponse as it came. Its resources are read where they lie, one after the other: however many there are, no list of them is made, and
// what is kept of one is what decode makes of it.
type message struct {
	url, nonce, says   string
	resources, removed int // how many there are

	body   []byte     // all of it
	buffer mem.Buffer // holds body until done, or nil if nobody has use for it
}

// Numbers of fields (discovery.md, part 2).
const (
	responseSays, responseResources, responseType, responseNonce, responseRemoved = 1, resourcesField, 4, 5, 6

	resourceVersion, resourceContent, resourceName, resourceAliases = 1, 2, 3, 4

	contentType, contentValue = 1, 2
)

// resource is one of a message's. All of it is the message's own bytes.
type resource struct {
	name, version []byte
	content       bool // there is any
	url, value    []byte
}

var (
	errNotUTF8      = errors.New("a string is not UTF-8")
	errFieldsNumber = errors.New("a field has a number that is none")
)

// readMessage reads a message whose bytes are not written to until done. It judges what gRPC's codec of protobuf would, so that a message that is none ends its stream
// before anything of it counted; what nobody here reads, as the name of the control plane, it passes over.
func readMessage(body []byte) (message, error) {
	m := message{body: body}
	err := eachField(body, func(number protowire.Number, b []byte) error {
		switch number {
		case responseResources:
			m.resources++
			_, err := readResource(b)
			return err
		case responseRemoved:
			m.removed++
			return asText(b)
		case responseType:
			m.url = knownText(b)
			return asText(b)
		case responseNonce:
			m.nonce = string(b)
			return asText(b)
		case responseSays:
			m.says = knownText(b)
			return asText(b)
		}
		return nil
	})
	return m, err
}

// done gives the bytes back.
func (m *message) done() {
	if m.buffer != nil {
		m.buffer.Free()
	}
}

// eachResource gives the resources in order.
func (m *message) eachResource(take func(resource)) {
	m.each(responseResources, func(b []byte) {
		r, _ := readResource(b) // it was read before
		take(r)
	})
}

// eachRemoved gives the names of what is removed, in order.
func (m *message) eachRemoved(take func([]byte)) {
	if m.removed > 0 {
		m.each(responseRemoved, take)
	}
}

func (m *message) each(field protowire.Number, take func([]byte)) {
	_ = eachField(m.body, func(number protowire.Number, b []byte) error { // it was read before
		if number == field {
			take(b)
		}
		return nil
	})
}

// readResource reads a Resource. As in all messages of protobuf, of a field that comes twice the last counts, and content that comes in parts is put together.
func readResource(body []byte) (r resource, err error) {
	err = eachField(body, func(number protowire.Number, b []byte) error {
		switch number {
		case resourceName:
			r.name = b
		case resourceVersion:
			r.version = b
		case resourceAliases:
		case resourceContent:
			r.content = true
			return eachField(b, r.takeContent)
		default:
			return nil
		}
		return asText(b)
	})
	return r, err
}

// takeContent takes a field of what a resource holds, which is an Any.
func (r *resource) takeContent(number protowire.Number, b []byte) error {
	switch number {
	case contentType:
		r.url = b
		return asText(b)
	case contentValue:
		r.value = b
	}
	return nil
}

// eachField gives those fields of an encoded message that are bytes, strings or messages. The error is take's, or says what is wrong with the encoding.
func eachField(body []byte, take func(protowire.Number, []byte) error) error {
	for len(body) > 0 {
		number, kind, n := protowire.ConsumeTag(body)
		if n < 0 {
			return protowire.ParseError(n)
		}
		if number > protowire.MaxValidNumber {
			return errFieldsNumber
		}
		body = body[n:]
		if kind != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(number, kind, body); n < 0 {
				return protowire.ParseError(n)
			}
			body = body[n:]
			continue
		}
		b, n := protowire.ConsumeBytes(body)
		if n < 0 {
			return protowire.ParseError(n)
		}
		if err := take(number, b); err != nil {
			return fmt.Errorf("field %d: %w", number, err)
		}
		body = body[n:]
	}
	return nil
}

// asText is an error if b is no string of protobuf.
func asText(b []byte) error {
	if !utf8.Valid(b) {
		return errNotUTF8
	}
	return nil
}

// knownText is string(b), for which no room is needed if it is one of the few that most messages hold.
func knownText(b []byte) string {
	for _, known := range [...]string{addressURL, authorizationURL, gatewayURL, bundleURL, saysComplete, saysPartial, saysMore} {
		if string(b) == known {
			return known
		}
	}
	return string(b)
}
