// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// prefixed is a message as gRPC sends it.
func prefixed(message string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
}

// scriptedLight is a stream whose server has said something, and what is written to it.
func scriptedLight(t *testing.T, say func(*http2.Framer) error) (*lightStream, *bytes.Buffer) {
	t.Helper()
	var said, written bytes.Buffer
	if err := say(http2.NewFramer(&said, nil)); err != nil {
		t.Fatal(err)
	}
	s := &lightStream{out: bufio.NewWriter(&written), mayConnection: lightFirstWindow, mayStream: lightFirstWindow, initial: lightFirstWindow}
	s.framer = http2.NewFramer(s.out, &said)
	s.framer.SetReuseFrames()
	s.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	return s, &written
}

// TestLightStreamPutsMessagesTogether cuts the same messages in every way.
func TestLightStreamPutsMessagesTogether(t *testing.T) {
	want := []string{"one", "", "a third that is longer", "4"}
	var all []byte
	for _, m := range want {
		all = append(all, prefixed(m)...)
	}
	for size := 1; size <= len(all); size++ {
		s, _ := scriptedLight(t, func(f *http2.Framer) error {
			for rest := all; len(rest) > 0; rest = rest[min(size, len(rest)):] {
				if err := f.WriteData(lightStreamID, false, rest[:min(size, len(rest))]); err != nil {
					return err
				}
			}
			return nil
		})
		for _, w := range want {
			if got, err := s.receive(); err != nil || string(got) != w {
				t.Fatalf("in frames of %d bytes: %q, %v; want %q", size, got, err, w)
			}
		}
		if got, err := s.receive(); !errors.Is(err, io.EOF) {
			t.Fatalf("in frames of %d bytes: %q, %v follows", size, got, err)
		}
	}
}

// TestLightStreamDoesAsItIsAsked says settings, a ping and more than half of a window, and looks at what is answered.
func TestLightStreamDoesAsItIsAsked(t *testing.T) {
	long := strings.Repeat("x", lightWindow/2)
	s, written := scriptedLight(t, func(f *http2.Framer) error {
		err := errors.Join(f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100}), f.WriteSettingsAck(),
			f.WritePing(false, [8]byte{7}), f.WritePing(true, [8]byte{8}), f.WriteWindowUpdate(lightStreamID, 11), f.WriteWindowUpdate(0, 1000))
		for rest := prefixed(long); len(rest) > 0; rest = rest[min(lightFrame, len(rest)):] {
			err = errors.Join(err, f.WriteData(lightStreamID, false, rest[:min(lightFrame, len(rest))]))
		}
		return err
	})
	if got, err := s.receive(); err != nil || string(got) != long {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if s.mayStream != 111 || s.mayConnection != lightFirstWindow+1000 {
		t.Errorf("may send %d on the stream, %d on the connection", s.mayStream, s.mayConnection)
	}
	if err := s.send(make([]byte, 111-lightPrefix+1)); err == nil || s.mayStream != 111 {
		t.Errorf("sent more than there is room for: %v", err)
	}
	if err := s.send(make([]byte, 111-lightPrefix)); err != nil || s.mayStream != 0 {
		t.Errorf("what there is room for: %v", err)
	}
	said := http2.NewFramer(nil, written)
	for _, want := range []func(http2.Frame) bool{
		func(f http2.Frame) bool { s, ok := f.(*http2.SettingsFrame); return ok && s.IsAck() },
		func(f http2.Frame) bool {
			p, ok := f.(*http2.PingFrame)
			return ok && p.IsAck() && p.Data == [8]byte{7}
		},
		func(f http2.Frame) bool {
			w, ok := f.(*http2.WindowUpdateFrame)
			return ok && w.StreamID == 0 && w.Increment >= lightWindow/2
		},
		func(f http2.Frame) bool {
			w, ok := f.(*http2.WindowUpdateFrame)
			return ok && w.StreamID == lightStreamID && w.Increment >= lightWindow/2
		},
		func(f http2.Frame) bool { d, ok := f.(*http2.DataFrame); return ok && len(d.Data()) == 111 },
	} {
		if f, err := said.ReadFrame(); err != nil || !want(f) {
			t.Errorf("answered %v, %v", f, err)
		}
	}
}

// TestLightStreamEndsWithAnError has the server end a call in each way, and say what is no message.
func TestLightStreamEndsWithAnError(t *testing.T) {
	headers := func(ended bool, fields ...hpack.HeaderField) func(*http2.Framer) error {
		return func(f *http2.Framer) error {
			var block bytes.Buffer
			e := hpack.NewEncoder(&block)
			for _, h := range fields {
				if err := e.WriteField(h); err != nil {
					return err
				}
			}
			return f.WriteHeaders(http2.HeadersFrameParam{StreamID: lightStreamID, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: ended})
		}
	}
	for want, say := range map[string]func(*http2.Framer) error{
		"not today":      headers(true, hpack.HeaderField{Name: ":status", Value: "200"}, hpack.HeaderField{Name: "grpc-message", Value: "not today"}),
		"503":            headers(false, hpack.HeaderField{Name: ":status", Value: "503"}),
		"REFUSED_STREAM": func(f *http2.Framer) error { return f.WriteRSTStream(lightStreamID, http2.ErrCodeRefusedStream) },
		"go elsewhere":   func(f *http2.Framer) error { return f.WriteGoAway(1, http2.ErrCodeNo, []byte("go elsewhere")) },
		"unexpected EOF": func(f *http2.Framer) error { return f.WriteData(lightStreamID, true, nil) },
		"compressed: 1":  func(f *http2.Framer) error { return f.WriteData(lightStreamID, false, []byte{1, 0, 0, 0, 1, 0}) },
		"4294967295":     func(f *http2.Framer) error { return f.WriteData(lightStreamID, false, []byte{0, 255, 255, 255, 255}) },
		"EOF":            func(*http2.Framer) error { return nil },
	} {
		s, _ := scriptedLight(t, say)
		if got, err := s.receive(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q, %v; want an error with %q", got, err, want)
		}
	}
}

// TestLightStreamHearsMoreThanItsWindow has the product's server tell so much that it must be given room meanwhile, then one change, and end.
func TestLightStreamHearsMoreThanItsWindow(t *testing.T) {
	w, err := newWatched(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer w.stop()
	const many = 25_000 // of about 250 bytes each
	d := watchedPods(many)
	w.server.Update(d)
	heard := make(chan int, 4)
	proxy, s := lightWatcher(t, w, func(d mesh.Delta) error { heard <- len(d.Workloads); return nil })
	ended := make(chan error, 1)
	go func() { ended <- proxy.follow(s) }()
	await := func(want int) {
		t.Helper()
		select {
		case n := <-heard:
			if n != want {
				t.Errorf("heard of %d workloads, want %d", n, want)
			}
		case err := <-ended:
			t.Fatal(err)
		}
	}
	await(many)
	w.server.Update(watchedChange(3))
	await(1)
	w.stop()
	if err := <-ended; err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("the server is gone, and the stream ends with %v", err)
	}
	s.close()
}
