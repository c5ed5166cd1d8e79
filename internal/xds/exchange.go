// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"errors"
	"fmt"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
)

// Hello gives the encoded requests that a new stream begins with, for who carries messages by other means than Run's. It, Hear and Run are for one goroutine.
func (c *Client) Hello() ([][]byte, error) {
	var out [][]byte
	for _, r := range c.hellos() {
		b, err := proto.Marshal(r)
		if err != nil {
			return nil, fmt.Errorf("encode a request: %w", err)
		}
		out = append(out, b)
	}
	return out, nil
}

// Hear takes the encoded response that came next on a stream, of which nothing is kept, and gives the encoded request that answers it: which acknowledges it, or
// names what of it was refused. An error ends the stream, after the answer was sent if there is one.
func (c *Client) Hear(response []byte) (answer []byte, err error) {
	m, err := readMessage(response)
	if err != nil {
		return nil, fmt.Errorf("receive: %w", err)
	}
	request, err := c.hear(&m)
	answer, encoding := proto.Marshal(request)
	return answer, errors.Join(err, encoding)
}

// hellos are what a stream begins with.
func (c *Client) hellos() []*discovery.DeltaDiscoveryRequest {
	var out []*discovery.DeltaDiscoveryRequest
	for _, t := range c.options.Types {
		out = append(out, c.hello(t))
	}
	if len(out) > 0 {
		out[0].Node = c.node()
	}
	return out
}

// hear takes a response and gives what answers it, whatever the error.
func (c *Client) hear(m *message) (*discovery.DeltaDiscoveryRequest, error) {
	c.metrics.received(m.url, len(m.body))
	refusal, err := c.apply(m)
	return &discovery.DeltaDiscoveryRequest{TypeUrl: m.url, ResponseNonce: m.nonce, ErrorDetail: refusal}, err
}
