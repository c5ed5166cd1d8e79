// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	// lightWindow is how many bytes the server may send ahead of our reading, on the stream and on the connection: a whole first answer (xds.responseWindow grows to that).
	lightWindow = 4 << 20
	// lightFirstWindow is what it may send on a connection before it was told (RFC 9113, 6.9.2), and what we may.
	lightFirstWindow = 65535
	// lightFrame is the longest frame that everybody reads (RFC 9113, 6.5.2).
	lightFrame = 16 << 10
	// lightMessage bounds a message: ten times the first answer that these rows have.
	lightMessage = 64 << 20
	// lightPrefix is what is before a message: whether it is compressed, and its length in four bytes (gRPC over HTTP/2, "Length-Prefixed-Message").
	lightPrefix = 5
	// lightStreamID is the first that a client opens.
	lightStreamID = 1
)

// lightStream is one gRPC call, which sends and receives messages, on a connection of its own. All of it happens in the goroutine that calls receive: 200 calls cost this
// process little beside what they ask of the server. It is for servers that mean well, and every surprise is an error.
type lightStream struct {
	conn   *tls.Conn
	out    *bufio.Writer // flushed whenever there is nothing more to say
	framer *http2.Framer

	unread        int // bytes that came since the server was last given room
	mayConnection int // bytes that the server gives us room for
	mayStream     int
	initial       int // what it gave a new stream

	frame   []byte // what is left of the last DATA frame
	message []byte // what came of a message that is in several frames, with its prefix
}

// openLight connects and begins a call of path. The context bounds that alone. Headers are those of the call, beyond gRPC's own.
func openLight(ctx context.Context, address string, config *tls.Config, path string, headers []hpack.HeaderField) (_ *lightStream, err error) {
	config = config.Clone()
	config.NextProtos = []string{http2.NextProtoTLS}
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			raw.Close()
		}
	}()
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	if got := conn.ConnectionState().NegotiatedProtocol; got != http2.NextProtoTLS {
		return nil, fmt.Errorf("the server speaks %q", got)
	}
	s := &lightStream{conn: conn, out: bufio.NewWriter(conn), mayConnection: lightFirstWindow, mayStream: lightFirstWindow, initial: lightFirstWindow}
	s.framer = http2.NewFramer(s.out, conn)
	s.framer.SetReuseFrames()                              // a frame is good until the next one is read
	s.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil) // the size of a table that nobody spoke about (RFC 7541, 6.5.2 of RFC 9113)
	block, err := lightHeaders(config.ServerName, path, headers)
	if err != nil {
		return nil, err
	}
	// What is written stays in the buffer, or its error does until the first send.
	_, _ = s.out.WriteString(http2.ClientPreface)
	_ = s.framer.WriteSettings(http2.Setting{ID: http2.SettingEnablePush}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: lightWindow})
	_ = s.framer.WriteWindowUpdate(0, lightWindow-lightFirstWindow)
	if err := s.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: lightStreamID, BlockFragment: block, EndHeaders: true}); err != nil {
		return nil, err
	}
	return s, s.out.Flush()
}

// lightHeaders are those that open the call.
func lightHeaders(authority, path string, more []hpack.HeaderField) ([]byte, error) {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, h := range append([]hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "https"}, {Name: ":path", Value: path}, {Name: ":authority", Value: authority},
		{Name: "content-type", Value: "application/grpc"}, {Name: "te", Value: "trailers"},
	}, more...) {
		if err := encoder.WriteField(h); err != nil {
			return nil, err
		}
	}
	if block.Len() > lightFrame {
		return nil, fmt.Errorf("the headers have %d bytes, more than a frame", block.Len())
	}
	return block.Bytes(), nil
}

// send writes a message. It must fit into a frame and into the room that the server gives: no more than one acknowledgement is ever under way.
func (s *lightStream) send(message []byte) error {
	n := lightPrefix + len(message)
	if n > min(lightFrame, s.mayConnection, s.mayStream) {
		return fmt.Errorf("no room for a request of %d bytes: the server takes %d on the stream and %d on the connection", n, s.mayStream, s.mayConnection)
	}
	s.mayConnection, s.mayStream = s.mayConnection-n, s.mayStream-n
	body := make([]byte, lightPrefix, n)
	binary.BigEndian.PutUint32(body[1:], uint32(len(message)))
	if err := s.framer.WriteData(lightStreamID, false, append(body, message...)); err != nil {
		return err
	}
	return s.out.Flush()
}

// receive gives the next message, which is good until it is called again. When the call ends, that is an error.
func (s *lightStream) receive() ([]byte, error) {
	for {
		if m, err := s.whole(); m != nil || err != nil {
			return m, err
		}
		f, err := s.framer.ReadFrame()
		if err != nil {
			return nil, err
		}
		if err := s.take(f); err != nil {
			return nil, err
		}
	}
}

// whole gives the next message if all of it is there, and takes what is there of it out of the frame.
func (s *lightStream) whole() ([]byte, error) {
	if len(s.message) == 0 { // it begins in this frame: most end in it, too
		n, err := lightSize(s.frame)
		if err != nil {
			return nil, err
		}
		if n > 0 && n <= len(s.frame) {
			m := s.frame[lightPrefix:n]
			s.frame = s.frame[n:]
			return m, nil
		}
	}
	for len(s.frame) > 0 {
		n, err := lightSize(s.message)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			n = lightPrefix
		}
		s.message = slices.Grow(s.message, n-len(s.message))
		more := min(n-len(s.message), len(s.frame))
		s.message, s.frame = append(s.message, s.frame[:more]...), s.frame[more:]
		if n, err := lightSize(s.message); n > 0 && n == len(s.message) && err == nil {
			m := s.message[lightPrefix:]
			s.message = nil // a first answer is large, and there are many of us
			return m, nil
		}
	}
	return nil, nil
}

// lightSize is how long the message is that begins here, with its prefix; 0 if not even that is all here.
func lightSize(b []byte) (int, error) {
	if len(b) < lightPrefix {
		return 0, nil
	}
	n := binary.BigEndian.Uint32(b[1:])
	if b[0] != 0 || n > lightMessage {
		return 0, fmt.Errorf("a message of %d bytes, compressed: %d", n, b[0])
	}
	return lightPrefix + int(n), nil
}

// take does what a frame asks.
func (s *lightStream) take(f http2.Frame) error {
	switch f := f.(type) {
	case *http2.DataFrame:
		if s.frame = f.Data(); f.StreamEnded() {
			return io.ErrUnexpectedEOF // gRPC ends a call with headers
		}
		return s.giveRoom(int(f.Length))
	case *http2.SettingsFrame:
		if f.IsAck() {
			return nil
		}
		if v, ok := f.Value(http2.SettingInitialWindowSize); ok {
			s.mayStream, s.initial = s.mayStream+int(v)-s.initial, int(v)
		}
		return errors.Join(s.framer.WriteSettingsAck(), s.out.Flush())
	case *http2.PingFrame:
		if f.IsAck() {
			return nil
		}
		return errors.Join(s.framer.WritePing(true, f.Data), s.out.Flush())
	case *http2.WindowUpdateFrame:
		if f.StreamID == 0 {
			s.mayConnection += int(f.Increment)
		} else {
			s.mayStream += int(f.Increment)
		}
		return nil
	case *http2.MetaHeadersFrame:
		if status := f.PseudoValue("status"); status != "200" || f.StreamEnded() {
			return fmt.Errorf("the call ended: %v", f.Fields)
		}
		return nil
	case *http2.RSTStreamFrame:
		return fmt.Errorf("the server reset the call: %s", f.ErrCode)
	case *http2.GoAwayFrame:
		return fmt.Errorf("the server ends the connection: %s %q", f.ErrCode, f.DebugData())
	}
	return nil // what is not known is passed over (RFC 9113, 5.5)
}

// giveRoom tells the server that it may send as much again, once it has used half of what it may.
func (s *lightStream) giveRoom(came int) error {
	if s.unread += came; s.unread < lightWindow/2 {
		return nil
	}
	n := uint32(s.unread)
	s.unread = 0
	return errors.Join(s.framer.WriteWindowUpdate(0, n), s.framer.WriteWindowUpdate(lightStreamID, n), s.out.Flush())
}

// close ends the connection, and whatever waits on it.
func (s *lightStream) close() { s.conn.Close() }
