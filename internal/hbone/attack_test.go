// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

const rawTarget = "10.0.0.1:80"

// TestServerEndsConnection has a client break rules of the connection. Each case begins after the greeting.
func TestServerEndsConnection(t *testing.T) {
	for _, tc := range []struct {
		name string
		code http2.ErrCode
		do   func(p *rawPeer)
	}{
		{"data on stream 0", http2.ErrCodeProtocol, func(p *rawPeer) { p.must(p.WriteData(0, false, []byte("x"))) }},
		{"data on idle stream", http2.ErrCodeProtocol, func(p *rawPeer) { p.must(p.WriteData(1, false, []byte("x"))) }},
		{"reset of idle stream", http2.ErrCodeProtocol, func(p *rawPeer) { p.must(p.WriteRSTStream(1, 0)) }},
		{"window of idle stream", http2.ErrCodeProtocol, func(p *rawPeer) { p.must(p.WriteWindowUpdate(1, 1)) }},
		{"even stream id", http2.ErrCodeProtocol, func(p *rawPeer) { p.headers(2, false, ":method", "CONNECT", ":authority", rawTarget) }},
		{"settings on a stream", http2.ErrCodeProtocol, func(p *rawPeer) { p.must(p.WriteRawFrame(http2.FrameSettings, 0, 1, nil)) }},
		{"settings of odd length", http2.ErrCodeFrameSize, func(p *rawPeer) { p.must(p.WriteRawFrame(http2.FrameSettings, 0, 0, make([]byte, 5))) }},
		{"settings ack with a body", http2.ErrCodeFrameSize, func(p *rawPeer) {
			p.must(p.WriteRawFrame(http2.FrameSettings, http2.FlagSettingsAck, 0, make([]byte, 6)))
		}},
		{"window setting too large", http2.ErrCodeFlowControl, func(p *rawPeer) {
			p.must(p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 31}))
		}},
		{"frame size setting too small", http2.ErrCodeProtocol, func(p *rawPeer) {
			p.must(p.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 100}))
		}},
		{"push setting of 2", http2.ErrCodeProtocol, func(p *rawPeer) {
			p.must(p.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 2}))
		}},
		{"ping of 7 bytes", http2.ErrCodeFrameSize, func(p *rawPeer) { p.must(p.WriteRawFrame(http2.FramePing, 0, 0, make([]byte, 7))) }},
		{"ping on a stream", http2.ErrCodeProtocol, func(p *rawPeer) { p.must(p.WriteRawFrame(http2.FramePing, 0, 1, make([]byte, 8))) }},
		{"goaway on a stream", http2.ErrCodeProtocol, func(p *rawPeer) { p.must(p.WriteRawFrame(http2.FrameGoAway, 0, 1, make([]byte, 8))) }},
		{"push promise", http2.ErrCodeProtocol, func(p *rawPeer) { p.must(p.WriteRawFrame(http2.FramePushPromise, 4, 1, make([]byte, 8))) }},
		{"continuation alone", http2.ErrCodeProtocol, func(p *rawPeer) { p.must(p.WriteContinuation(1, true, nil)) }},
		{"header block interrupted", http2.ErrCodeProtocol, func(p *rawPeer) {
			p.must(p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block(":method", "CONNECT")}))
			p.must(p.WritePing(false, [8]byte{}))
		}},
		{"broken header block", http2.ErrCodeCompression, func(p *rawPeer) {
			p.must(p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, EndHeaders: true}))
		}},
		{"zero increment of the connection", http2.ErrCodeProtocol, func(p *rawPeer) { p.must(p.WriteWindowUpdate(0, 0)) }},
		{"window above the limit", http2.ErrCodeFlowControl, func(p *rawPeer) { p.must(p.WriteWindowUpdate(0, 1<<31-1)) }},
		{"frame above the limit", http2.ErrCodeFrameSize, func(p *rawPeer) {
			p.connect(1)
			p.must(p.WriteRawFrame(http2.FrameData, 0, 1, make([]byte, 1<<20+1)))
		}},
		{"padding longer than its frame", http2.ErrCodeProtocol, func(p *rawPeer) {
			p.connect(1)
			p.must(p.WriteRawFrame(http2.FrameData, http2.FlagDataPadded, 1, []byte{5, 1, 2}))
		}},
		{"stream id used twice", http2.ErrCodeStreamClosed, func(p *rawPeer) {
			s := p.connect(1)
			p.must(p.WriteData(1, true, nil))
			_ = s.Close()
			eventually(p.t, func() bool { return p.conn.Streams() == 0 })
			p.headers(1, false, ":method", "CONNECT", ":authority", rawTarget)
		}},
		{"header field above every limit", http2.ErrCodeEnhanceYourCalm, func(p *rawPeer) {
			p.must(p.WriteHeaders(http2.HeadersFrameParam{
				StreamID: 1, BlockFragment: p.block("x", strings.Repeat("a", 70<<10)), EndHeaders: true,
			}))
		}},
		{"continuation flood", http2.ErrCodeEnhanceYourCalm, func(p *rawPeer) {
			p.must(p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block(":method", "CONNECT")}))
			for range 20 {
				_ = p.WriteContinuation(1, false, nil)
			}
		}},
		{"ping flood", http2.ErrCodeEnhanceYourCalm, func(p *rawPeer) {
			for range 10000 {
				_ = p.WritePing(false, [8]byte{})
			}
		}},
		{"settings flood", http2.ErrCodeEnhanceYourCalm, func(p *rawPeer) {
			for range 10000 {
				_ = p.WriteSettings()
			}
		}},
		{"priority flood", http2.ErrCodeEnhanceYourCalm, func(p *rawPeer) {
			for range 10000 {
				_ = p.WritePriority(1, http2.PriorityParam{StreamDep: 3})
			}
		}},
		{"flood of unknown frames", http2.ErrCodeEnhanceYourCalm, func(p *rawPeer) {
			for range 10000 {
				_ = p.WriteRawFrame(0xfa, 0, 0, []byte("x"))
			}
		}},
		{"empty data flood", http2.ErrCodeEnhanceYourCalm, func(p *rawPeer) {
			p.connect(1)
			for range 10000 {
				_ = p.WriteData(1, false, nil)
			}
		}},
		{"window update flood", http2.ErrCodeEnhanceYourCalm, func(p *rawPeer) {
			p.connect(1)
			for range 10000 {
				_ = p.WriteWindowUpdate(1, 1)
			}
		}},
		{"rapid reset", http2.ErrCodeEnhanceYourCalm, func(p *rawPeer) {
			for id := uint32(1); id < 10000; id += 2 {
				if p.WriteHeaders(http2.HeadersFrameParam{
					StreamID: id, BlockFragment: p.block(":method", "CONNECT", ":authority", rawTarget), EndHeaders: true,
				}) != nil || p.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
					return
				}
			}
		}},
		{"made you reset", http2.ErrCodeEnhanceYourCalm, func(p *rawPeer) {
			for id := uint32(1); id < 10000; id += 2 {
				if p.WriteHeaders(http2.HeadersFrameParam{
					StreamID: id, BlockFragment: p.block(":method", "CONNECT", ":authority", rawTarget), EndHeaders: true,
				}) != nil || p.WriteWindowUpdate(id, 0) != nil {
					return
				}
			}
		}},
		{"bad request flood", http2.ErrCodeEnhanceYourCalm, func(p *rawPeer) {
			for id := uint32(1); id < 10000; id += 2 {
				if p.WriteHeaders(http2.HeadersFrameParam{
					StreamID: id, BlockFragment: p.block(":method", "CONNECT", ":authority", "nowhere"), EndHeaders: true, EndStream: true,
				}) != nil {
					return
				}
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := attack(t, false, Settings{})
			tc.do(p)
			p.sawGoAway(tc.code)
		})
	}
}

// TestServerResetsStream has a client break the rules of one stream; the connection must go on.
func TestServerResetsStream(t *testing.T) {
	connect := []string{":method", "CONNECT", ":authority", rawTarget}
	for _, tc := range []struct {
		name string
		code http2.ErrCode
		do   func(p *rawPeer)
	}{
		{"upper case name", http2.ErrCodeProtocol, func(p *rawPeer) { p.headers(1, false, append(connect, "X-Big", "1")...) }},
		{"connection header", http2.ErrCodeProtocol, func(p *rawPeer) { p.headers(1, false, append(connect, "connection", "close")...) }},
		{"te other than trailers", http2.ErrCodeProtocol, func(p *rawPeer) { p.headers(1, false, append(connect, "te", "gzip")...) }},
		{"unknown pseudo-header", http2.ErrCodeProtocol, func(p *rawPeer) { p.headers(1, false, append(connect, ":protocol", "websocket")...) }},
		{"path on CONNECT", http2.ErrCodeProtocol, func(p *rawPeer) { p.headers(1, false, append(connect, ":path", "/")...) }},
		{"pseudo-header twice", http2.ErrCodeProtocol, func(p *rawPeer) { p.headers(1, false, append(connect, ":method", "CONNECT")...) }},
		{"pseudo-header after a field", http2.ErrCodeProtocol, func(p *rawPeer) { p.headers(1, false, ":method", "CONNECT", "a", "b", ":authority", rawTarget) }},
		{"no method", http2.ErrCodeProtocol, func(p *rawPeer) { p.headers(1, false, ":authority", rawTarget) }},
		{"GET without a path", http2.ErrCodeProtocol, func(p *rawPeer) { p.headers(1, false, ":method", "GET", ":scheme", "https") }},
		{"newline in a value", http2.ErrCodeProtocol, func(p *rawPeer) { p.headers(1, false, append(connect, "x", "a\nb")...) }},
		{"zero increment", http2.ErrCodeProtocol, func(p *rawPeer) { p.connect(1); p.must(p.WriteWindowUpdate(1, 0)) }},
		{"window above the limit", http2.ErrCodeFlowControl, func(p *rawPeer) { p.connect(1); p.must(p.WriteWindowUpdate(1, 1<<31-1)) }},
		{"second headers", http2.ErrCodeProtocol, func(p *rawPeer) { p.connect(1); p.headers(1, false, "a", "b") }},
		{"data after end", http2.ErrCodeStreamClosed, func(p *rawPeer) {
			p.connect(1)
			p.must(p.WriteData(1, true, nil))
			p.must(p.WriteData(1, false, []byte("x")))
		}},
		{"headers after end", http2.ErrCodeStreamClosed, func(p *rawPeer) {
			p.connect(1)
			p.must(p.WriteData(1, true, nil))
			p.headers(1, true, "a", "b")
		}},
		{"data beyond the window", http2.ErrCodeFlowControl, func(p *rawPeer) {
			p.connect(1)
			for range 5 {
				p.must(p.WriteData(1, false, make([]byte, 1<<20)))
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := attack(t, false, Settings{})
			tc.do(p)
			p.sawReset(1, tc.code)
			p.sawEvent(EventStreamProtocol)
			s := p.connect(3)
			p.must(p.WriteData(3, true, []byte("fine")))
			if got, err := io.ReadAll(s); err != nil || string(got) != "fine" {
				t.Errorf("after it, another stream read %q, error %v", got, err)
			}
			_ = s.Close()
		})
	}
}

// TestServerAnswersBadRequest sends legal HTTP/2 that is not HBONE.
func TestServerAnswersBadRequest(t *testing.T) {
	for _, tc := range []struct {
		name, status string
		fields       []string
	}{
		{"GET", "400", []string{":method", "GET", ":scheme", "https", ":authority", "a", ":path", "/"}},
		{"no authority", "400", []string{":method", "CONNECT"}},
		{"no port", "400", []string{":method", "CONNECT", ":authority", "10.0.0.1"}},
		{"port 0", "400", []string{":method", "CONNECT", ":authority", "10.0.0.1:0"}},
		{"no host", "400", []string{":method", "CONNECT", ":authority", ":80"}},
		{"user info", "400", []string{":method", "CONNECT", ":authority", "a@b:80"}},
		{"header list too large", "431", append([]string{":method", "CONNECT", ":authority", rawTarget}, manyFields(200, 100)...)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := attack(t, false, Settings{})
			p.headers(1, true, tc.fields...)
			p.saw("status "+tc.status, func(f rawFrame) bool { return f.kind == http2.FrameHeaders && f.status == tc.status && f.end })
			p.sawEvent(EventBadRequest)
			p.connect(3)
		})
	}
}

// manyFields gives n fields whose values have size bytes.
func manyFields(n, size int) []string {
	var fields []string
	for range n {
		fields = append(fields, "x-bomb", strings.Repeat("a", size))
	}
	return fields
}

// TestHeaderBomb sends few bytes that decode to many: the limit counts what they decode to, and far beyond it nothing more is decoded.
func TestHeaderBomb(t *testing.T) {
	p := attack(t, false, Settings{})
	p.headers(1, true, append([]string{":method", "CONNECT", ":authority", rawTarget}, manyFields(10, 4000)...)...)
	p.saw("status 431", func(f rawFrame) bool { return f.status == "431" })
	p.connect(3)
	p.headers(5, true, append([]string{":method", "CONNECT", ":authority", rawTarget}, manyFields(4000, 4000)...)...)
	p.sawGoAway(http2.ErrCodeEnhanceYourCalm)
	p.sawEvent(EventHeaderLimit)
}

// TestUnreadAnswers has a peer cause answers that it does not read.
func TestUnreadAnswers(t *testing.T) {
	a, b := tcpPair(t)
	defer a.Close()
	s := NewServer(b, Settings{Control: Budget{Burst: 1 << 30}, FlushTimeout: 10 * time.Millisecond})
	defer s.Close()
	pings := bytes.NewBufferString(http2.ClientPreface)
	f := http2.NewFramer(pings, nil)
	_ = f.WriteSettings()
	for range 1000 {
		_ = f.WritePing(false, [8]byte{})
	}
	_ = a.SetWriteDeadline(time.Now().Add(20 * time.Second))
	_, err := a.Write(pings.Bytes())
	body := pings.Bytes()[len(http2.ClientPreface)+9:]
	for err == nil {
		_, err = a.Write(body)
	}
	<-s.Done()
	var ce *ConnError
	if !errors.As(s.Err(), &ce) || ce.Code != uint32(http2.ErrCodeEnhanceYourCalm) {
		t.Errorf("ended with %v", s.Err())
	}
}

func TestRefusedStream(t *testing.T) {
	p := attack(t, false, Settings{MaxStreams: 2})
	p.connect(1)
	p.connect(3)
	p.headers(5, false, ":method", "CONNECT", ":authority", rawTarget)
	p.sawReset(5, http2.ErrCodeRefusedStream)
	p.sawEvent(EventRefusedStream)
	p.must(p.WriteRSTStream(1, http2.ErrCodeCancel))
	p.connect(7)
}

func TestNoPreface(t *testing.T) {
	a, b := tcpPair(t)
	defer a.Close()
	s := NewServer(b, Settings{FlushTimeout: 10 * time.Millisecond})
	if _, err := io.WriteString(a, "GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-s.Done()
	if s.Err() == nil {
		t.Error("no error")
	}
}

// TestClientMeetsHostileServer has a server break rules.
func TestClientMeetsHostileServer(t *testing.T) {
	for _, tc := range []struct {
		name string
		code http2.ErrCode
		do   func(p *rawPeer)
	}{
		{"headers on a stream never opened", http2.ErrCodeProtocol, func(p *rawPeer) { p.headers(7, false, ":status", "200") }},
		{"headers on an even stream", http2.ErrCodeProtocol, func(p *rawPeer) { p.headers(2, false, ":status", "200") }},
		{"push promise", http2.ErrCodeProtocol, func(p *rawPeer) { p.must(p.WriteRawFrame(http2.FramePushPromise, 4, 1, make([]byte, 8))) }},
		{"push setting", http2.ErrCodeProtocol, func(p *rawPeer) {
			p.must(p.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 1}))
		}},
		{"data beyond the connection's window", http2.ErrCodeFlowControl, func(p *rawPeer) {
			for range 17 {
				_ = p.WriteData(1, false, make([]byte, 1<<20))
			}
		}},
		{"interim answers without end", http2.ErrCodeEnhanceYourCalm, func(p *rawPeer) {
			for range 20000 {
				if p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block(":status", "103"), EndHeaders: true}) != nil {
					return
				}
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := attack(t, true, Settings{StreamWindow: 64 << 20, Control: Budget{Burst: 100, PerSecond: 1}, Resets: Budget{Burst: 20, PerSecond: 1}})
			opened := make(chan error, 1)
			go func() {
				_, _, err := p.conn.Open(t.Context(), rawTarget, nil)
				opened <- err
			}()
			eventually(t, func() bool { return p.conn.Streams() == 1 })
			tc.do(p)
			p.sawGoAway(tc.code)
			if err := <-opened; err == nil {
				t.Error("open succeeded")
			}
		})
	}
}

func TestClientResetsBadAnswer(t *testing.T) {
	for name, fields := range map[string][]string{
		"no status":         {"a", "b"},
		"status of letters": {":status", "abc"},
		"request as answer": {":status", "200", ":method", "GET"},
		"too large":         append([]string{":status", "200"}, manyFields(200, 100)...),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := attack(t, true, Settings{})
			opened := make(chan error, 1)
			go func() {
				_, _, err := p.conn.Open(t.Context(), rawTarget, nil)
				opened <- err
			}()
			eventually(t, func() bool { return p.conn.Streams() == 1 })
			p.headers(1, false, fields...)
			p.sawReset(1, http2.ErrCodeProtocol)
			var se *StreamError
			if err := <-opened; !errors.As(err, &se) || se.Remote {
				t.Errorf("open: %v", err)
			}
		})
	}
}

// TestBadPaddingOfTrailers: a connection error (RFC 9113 §6.2).
func TestBadPaddingOfTrailers(t *testing.T) {
	p := attack(t, false, Settings{})
	p.connect(1)
	all := http2.FlagHeadersPadded | http2.FlagHeadersEndHeaders | http2.FlagHeadersEndStream
	p.must(p.WriteRawFrame(http2.FrameHeaders, all, 1, append([]byte{200}, p.block("a", "b")...)))
	p.sawGoAway(http2.ErrCodeProtocol)
}

// TestUnaskedPingAnswers floods with acknowledgements of PINGs that were never sent.
func TestUnaskedPingAnswers(t *testing.T) {
	for _, payload := range [][8]byte{pingAlive, pingDrain, pingProbe} {
		p := attack(t, false, Settings{})
		for range 10000 {
			_ = p.WritePing(true, payload)
		}
		p.sawGoAway(http2.ErrCodeEnhanceYourCalm)
	}
}

// TestRequestsAfterADrain floods with requests beyond the last stream that is served.
func TestRequestsAfterADrain(t *testing.T) {
	p := attack(t, false, Settings{})
	p.connect(1)
	p.conn.Drain()
	p.must(p.WritePing(true, pingDrain))
	p.saw("second GOAWAY", func(f rawFrame) bool { return f.kind == http2.FrameGoAway && f.stream == 1 })
	block := slices.Clone(p.block(":method", "CONNECT", ":authority", rawTarget))
	for id := uint32(3); id < 20000; id += 2 {
		if p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true}) != nil {
			break
		}
	}
	p.sawGoAway(http2.ErrCodeEnhanceYourCalm)
}

// TestAnswerWithinThePeersLimit: RFC 9113 §10.5.1 leaves it to us, but a client of ours resets what is larger.
func TestAnswerWithinThePeersLimit(t *testing.T) {
	p := attack(t, false, Settings{})
	p.must(p.WriteSettings(http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: 100}))
	p.headers(1, false, ":method", "CONNECT", ":authority", rawTarget)
	r, err := p.conn.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Accept(Header{{"baggage", strings.Repeat("a", 1000)}}); err == nil {
		t.Error("sent an answer that the peer does not take")
	}
}

// TestFramesOnAStreamThatIsOver has frames come between a stream's end and when whoever ended it takes it off the table: they are late, as a moment later, and no new mistake each.
func TestFramesOnAStreamThatIsOver(t *testing.T) {
	p := attack(t, true, Settings{Control: Budget{Burst: 100, PerSecond: 1}, Resets: Budget{Burst: 20, PerSecond: 1}})
	go func() { _, _, _ = p.conn.Open(t.Context(), rawTarget, nil) }()
	eventually(t, func() bool { return p.conn.Streams() == 1 })
	p.conn.wmu.Lock()
	p.conn.forget(1)
	p.conn.wmu.Unlock()
	p.conn.lookup(1).ends.Or(endReset)
	for range 20000 {
		if p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block(":status", "103"), EndHeaders: true}) != nil {
			break
		}
	}
	p.sawGoAway(http2.ErrCodeEnhanceYourCalm)
	<-p.conn.Done()
	var spent *BudgetError
	if err := p.conn.Err(); !errors.As(err, &spent) || spent.Event != EventControlBudget {
		t.Errorf("ended with %v, want %s", err, EventControlBudget)
	}
}
