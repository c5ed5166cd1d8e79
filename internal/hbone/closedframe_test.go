// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"bytes"
	"io"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// TestEndWithinFrameOfClosedStream has a stream closed while a large frame comes that ends it.
func TestEndWithinFrameOfClosedStream(t *testing.T) {
	p := attack(t, false, Settings{})
	s := p.connect(1)
	frame := bytes.NewBuffer(nil)
	_ = http2.NewFramer(frame, nil).WriteData(1, true, make([]byte, 100<<10))
	half := frame.Len() / 2 // the other half goes past the buffer, see land
	_, err := p.nc.Write(frame.Bytes()[:half])
	p.must(err)
	_, err = io.ReadFull(s, make([]byte, half-9))
	p.must(err)
	_ = s.Close()
	_, err = p.nc.Write(frame.Bytes()[half:])
	p.must(err)
	p.must(p.WritePing(false, [8]byte{1}))
	p.saw("PING answer", func(f rawFrame) bool { return f.kind == http2.FramePing && f.ack })
	for end := time.Now().Add(30 * time.Second); p.conn.Streams() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("both ends ended the stream in order, but it is still there: ends %b", s.ends.Load())
		}
	}
}
