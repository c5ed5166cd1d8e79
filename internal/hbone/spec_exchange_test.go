// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

var update = flag.Bool("update", false, "rewrite the example of an exchange in docs/hbone.md")

// fenced finds the code block behind a marker, an HTML comment of its own line.
func fenced(t *testing.T, text, marker string) (before, block, after string) {
	t.Helper()
	open := "<!-- " + marker + " -->\n```text\n"
	before, rest, found := strings.Cut(text, open)
	block, after, closed := strings.Cut(rest, "\n```\n")
	if !found || !closed {
		t.Fatalf("%s has no code block behind the marker %q", specification, marker)
	}
	return before + open, block, "\n```\n" + after
}

// TestSpecifiedExchange has two ends of ours make the exchange of the document's appendix, and compares byte for byte.
func TestSpecifiedExchange(t *testing.T) {
	got := exchange(t)
	before, want, after := fenced(t, readSpecification(t), "exchange")
	if *update {
		if err := os.WriteFile(specification, []byte(before+got+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := gocmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s shows what we do not send (-document +code); if that is meant, rewrite it with -update:\n%s", specification, diff)
	}
}

// TestSpecifiedExchangeIsAccepted plays what the document has one side say to the other side of ours.
func TestSpecifiedExchangeIsAccepted(t *testing.T) {
	_, page, _ := fenced(t, readSpecification(t), "exchange")
	said := parseExchange(t, page)
	t.Run("by a server", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			peer, nc := net.Pipe()
			s := NewServer(nc, Settings{})
			go func() { _, _ = io.Copy(io.Discard, peer) }()
			go func() { _, _ = peer.Write(said['C']) }()
			st := accept(t, s)
			refuse(t, s)
			if got, err := io.ReadAll(st); err != nil || string(got) != "hello" {
				t.Errorf("read %q, error %v", got, err)
			}
			_ = st.Close()
			silence()
			if s.Err() != nil || s.Streams() != 0 {
				t.Errorf("connection ended: %v; %d streams", s.Err(), s.Streams())
			}
			_ = s.Close()
			_ = peer.Close()
		})
	})
	t.Run("by a client", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			peer, nc := net.Pipe()
			c, err := NewClient(nc, Settings{})
			if err != nil {
				t.Fatal(err)
			}
			go func() { _, _ = io.Copy(io.Discard, peer) }()
			first := opening(t, c, firstTarget)
			synctest.Wait() // streams are numbered in the order in which they are opened
			second := opening(t, c, secondTarget)
			synctest.Wait()
			go func() { _, _ = peer.Write(said['S']) }()
			o := <-first
			if o.err != nil || !reflect.DeepEqual(o.header, answerHeader) {
				t.Fatalf("answer %v, error %v", o.header, o.err)
			}
			if got, err := io.ReadAll(o.stream); err != nil || string(got) != "HELLO" {
				t.Errorf("read %q, error %v", got, err)
			}
			var refused *RefusedError
			if err := (<-second).err; !errors.As(err, &refused) || refused.Status != 503 {
				t.Errorf("second answer: %v", err)
			}
			if c.Usable() {
				t.Error("opens streams after GOAWAY")
			}
			_ = o.stream.Close()
			<-c.Done()
			_ = peer.Close()
		})
	})
}

const (
	firstTarget  = "10.0.0.7:8080"
	secondTarget = "10.0.0.7:9090"
)

var (
	requestHeader = Header{
		{"baggage", "k8s.cluster.name=east,k8s.namespace.name=shop,k8s.deployment.name=till,service.name=till,service.version=v1"},
		{"forwarded", `for="10.0.0.3:41000";host=cart.shop.svc.cluster.local`},
		{"traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
	}
	answerHeader = Header{{"baggage", "k8s.cluster.name=east,k8s.namespace.name=shop,k8s.deployment.name=cart,service.name=cart,service.version=v2"}}
)

// exchange makes the exchange between two ends of ours and writes down what went over the wire.
func exchange(t *testing.T) string {
	t.Helper()
	tp := newTape()
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		c, err := NewClient(&taped{a, tp, 'C'}, Settings{})
		if err != nil {
			t.Fatal(err)
		}
		s := NewServer(&taped{b, tp, 'S'}, Settings{})
		tp.step("Both sides greet each other. Neither waits; shown one after the other.", true)

		first := opening(t, c, firstTarget)
		tp.step("The client asks for a tunnel to an address.", false)
		y := accept(t, s)
		o := <-first
		if o.err != nil {
			t.Fatal(o.err)
		}
		x := o.stream
		tp.step("The server has connected to it.", false)
		if _, err := x.Write([]byte("hello")); err != nil {
			t.Error(err)
		}
		tp.step("Bytes one way.", false)
		if _, err := y.Write([]byte("HELLO")); err != nil {
			t.Error(err)
		}
		tp.step("Bytes the other way.", false)

		second := opening(t, c, secondTarget)
		tp.step("The client asks for a tunnel to another port of the pod. A field that was sent before is one octet now (RFC 7541).", false)
		refuse(t, s)
		if err := (<-second).err; err == nil {
			t.Error("not refused")
		}
		tp.step("Nobody listens there. The client ends its own direction.", false)

		s.Drain()
		tp.step("The server drains: the first GOAWAY, the barrier, its answer, the second GOAWAY.", false)
		_ = y.CloseWrite()
		tp.step("The running stream goes on. Its server ends first,", false)
		_ = x.CloseWrite()
		tp.step("its client later. Both sides now end the transport.", false)
		<-c.Done()
		<-s.Done()
		tp.step("", false)
		for _, end := range []*Conn{c, s} {
			var ce *ConnError
			if !errors.As(end.Err(), &ce) || ce.Remote || ce.Code != uint32(http2.ErrCodeNo) {
				t.Errorf("ended with %v", end.Err())
			}
		}
	})
	return strings.TrimRight(tp.page.String(), "\n")
}

// outcome is what Open gave.
type outcome struct {
	stream *Stream
	header Header
	err    error
}

func opening(t *testing.T, c *Conn, authority string) <-chan outcome {
	done := make(chan outcome, 1)
	go func() {
		s, answer, err := c.Open(t.Context(), authority, requestHeader)
		done <- outcome{s, answer, err}
	}()
	return done
}

// asked takes the next request, which must be for authority.
func asked(t *testing.T, s *Conn, authority string) *Request {
	t.Helper()
	r, err := s.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r.Authority != authority || !reflect.DeepEqual(r.Header, requestHeader) {
		t.Errorf("asked for %q with %v, want %q with %v", r.Authority, r.Header, authority, requestHeader)
	}
	return r
}

// accept answers the first request.
func accept(t *testing.T, s *Conn) *Stream {
	t.Helper()
	st, err := asked(t, s, firstTarget).Accept(answerHeader)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// refuse answers the second one.
func refuse(t *testing.T, s *Conn) {
	t.Helper()
	r := asked(t, s, secondTarget)
	if err := r.Reject(503, nil); err != nil {
		t.Error(err)
	}
}

// tape writes down frames in the order in which they were sent; however they were cut into writes.
type tape struct {
	mu      sync.Mutex
	partial map[byte][]byte // by speaker, 'C' or 'S': what is no whole frame yet
	said    []frame
	preface bool
	hpack   map[byte]*hpack.Decoder
	page    strings.Builder
	steps   int
}

type frame struct {
	who   byte
	bytes []byte
}

func newTape() *tape {
	decoder := func() *hpack.Decoder { return hpack.NewDecoder(4096, nil) }
	return &tape{partial: map[byte][]byte{}, hpack: map[byte]*hpack.Decoder{'C': decoder(), 'S': decoder()}}
}

// taped is one end of the transport, on tape.
type taped struct {
	net.Conn
	tape *tape
	who  byte
}

func (c *taped) Write(p []byte) (int, error) {
	c.tape.record(c.who, p)
	return c.Conn.Write(p)
}

func (tp *tape) record(who byte, p []byte) {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	b := append(tp.partial[who], p...)
	for {
		n := frameHeaderLen
		switch {
		case who == 'C' && !tp.preface:
			n = len(http2.ClientPreface)
		case len(b) >= frameHeaderLen:
			n += int(b[0])<<16 | int(b[1])<<8 | int(b[2])
		}
		if len(b) < n {
			break
		}
		tp.preface = tp.preface || who == 'C'
		tp.said = append(tp.said, frame{who, slices.Clone(b[:n])})
		b = b[n:]
	}
	tp.partial[who] = b
}

// silence waits until nothing more is said: by then whoever left the seat of a connection is back, or somebody else took it.
func silence() {
	time.Sleep(2 * absence)
	synctest.Wait()
}

// step prints what was said since the last step, once there is silence. greeting says that the sides spoke at once, in no order.
func (tp *tape) step(title string, greeting bool) {
	silence()
	tp.mu.Lock()
	defer tp.mu.Unlock()
	if greeting {
		slices.SortStableFunc(tp.said, func(a, b frame) int { return cmp.Compare(a.who, b.who) })
	}
	if title != "" {
		tp.steps++
		fmt.Fprintf(&tp.page, "# %d. %s\n", tp.steps, title)
	}
	for _, f := range tp.said {
		fmt.Fprintf(&tp.page, "%c  %s\n", f.who, tp.describe(f))
		head := min(frameHeaderLen, len(f.bytes))
		if string(f.bytes) == http2.ClientPreface {
			head = 0
		} else {
			fmt.Fprintf(&tp.page, "   %x %x %x %x\n", f.bytes[:3], f.bytes[3:4], f.bytes[4:5], f.bytes[5:9])
		}
		for line := range slices.Chunk(f.bytes[head:], 32) {
			tp.page.WriteString("  ")
			for group := range slices.Chunk(line, 4) {
				fmt.Fprintf(&tp.page, " %x", group)
			}
			tp.page.WriteString("\n")
		}
	}
	tp.page.WriteString("\n")
	tp.said = nil
}

// describe reads a frame by other means than the code under test.
func (tp *tape) describe(f frame) string {
	if string(f.bytes) == http2.ClientPreface {
		return "preface"
	}
	fr, err := http2.NewFramer(nil, bytes.NewReader(f.bytes)).ReadFrame()
	if err != nil {
		return err.Error()
	}
	h := fr.Header()
	out := h.Type.String()
	if h.StreamID != 0 {
		out += fmt.Sprintf(" on stream %d", h.StreamID)
	}
	flag := func(set bool, name string) {
		if set {
			out += ", " + name
		}
	}
	detail := func(format string, args ...any) { out += "\n     " + fmt.Sprintf(format, args...) }
	switch fr := fr.(type) {
	case *http2.SettingsFrame:
		flag(fr.IsAck(), "ACK")
		_ = fr.ForeachSetting(func(s http2.Setting) error { detail("%v = %d", s.ID, s.Val); return nil })
	case *http2.WindowUpdateFrame:
		out += fmt.Sprintf(", increment %d", fr.Increment)
	case *http2.HeadersFrame:
		flag(fr.StreamEnded(), "END_STREAM")
		flag(fr.HeadersEnded(), "END_HEADERS")
		fields, err := tp.hpack[f.who].DecodeFull(fr.HeaderBlockFragment())
		if err != nil {
			return err.Error()
		}
		for _, field := range fields {
			detail("%s = %s", field.Name, field.Value)
		}
	case *http2.DataFrame:
		flag(fr.StreamEnded(), "END_STREAM")
		if len(fr.Data()) > 0 {
			detail("%q", fr.Data())
		}
	case *http2.PingFrame:
		flag(fr.IsAck(), "ACK")
		detail("%q", fr.Data[:])
	case *http2.GoAwayFrame:
		out += fmt.Sprintf(", last stream %d, %v", fr.LastStreamID, fr.ErrCode)
	}
	return out
}

// parseExchange gives all bytes of each speaker: the lines that hold nothing but hex.
func parseExchange(t *testing.T, page string) map[byte][]byte {
	t.Helper()
	said := map[byte][]byte{}
	var who byte
	for line := range strings.Lines(page) {
		if line[0] == 'C' || line[0] == 'S' {
			who = line[0]
			continue
		}
		if b, err := hex.DecodeString(strings.Join(strings.Fields(line), "")); err == nil && strings.HasPrefix(line, "   ") {
			said[who] = append(said[who], b...)
		}
	}
	if len(said['C']) == 0 || len(said['S']) == 0 {
		t.Fatal("the exchange holds no bytes")
	}
	return said
}
