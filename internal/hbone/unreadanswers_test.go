// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// TestSlowReaderMayHaveAsManyAnswersAsStreams has a client ask for as many streams as it may while the network is full towards it. It breaks no rule: the answers,
// which are no two alike and as large as workloads describe themselves, wait for it, and a PING does not change that.
func TestSlowReaderMayHaveAsManyAnswersAsStreams(t *testing.T) {
	a, b := tcpPair(t)
	s := NewServer(stuckCopied(b), Settings{PingInterval: -1})
	defer s.Close()
	defer a.Close()
	_, err := a.Write([]byte(http2.ClientPreface))
	if err != nil {
		t.Fatal(err)
	}
	f := http2.NewFramer(a, a)
	var block strings.Builder
	enc := hpack.NewEncoder(&block)
	if err := f.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	for i := range uint32(defaultServerStreams) {
		block.Reset()
		_ = enc.WriteField(hpack.HeaderField{Name: ":method", Value: "CONNECT"})
		_ = enc.WriteField(hpack.HeaderField{Name: ":authority", Value: "10.0.0.1:80"})
		if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: []byte(block.String()), EndHeaders: true}); err != nil {
			t.Fatal(err)
		}
		r, err := s.Accept(t.Context())
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		if _, err := r.Accept(Header{{Name: "baggage", Value: fmt.Sprint(i, strings.Repeat("~", 700))}}); err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
	}
	before := s.ping.signs.Load()
	if err := f.WritePing(false, [8]byte{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return s.ping.signs.Load() > before })
	if err := s.Err(); err != nil {
		t.Errorf("the connection ended: %v", err)
	}
}
