// SPDX-License-Identifier: Apache-2.0

package stranger

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// helloOf is what Go's client begins with.
func helloOf(t testing.TB) []byte {
	t.Helper()
	var sent bytes.Buffer
	if err := tls.Client(&said{to: &sent}, &tls.Config{InsecureSkipVerify: true}).Handshake(); err == nil {
		t.Fatal("a handshake with nobody")
	}
	return sent.Bytes()
}

// said is a connection to somebody who says nothing.
type said struct {
	net.Conn
	to io.Writer
}

func (c *said) Read([]byte) (int, error)    { return 0, io.EOF }
func (c *said) Write(p []byte) (int, error) { return c.to.Write(p) }
func (c *said) Close() error                { return nil }

// inRecords cuts the message of one record into records of a size.
func inRecords(hello []byte, size int) (out []byte) {
	for message := hello[recordHeader:]; len(message) > 0; {
		n := min(size, len(message))
		out = binary.BigEndian.AppendUint16(append(out, recordType, 3, 1), uint16(n))
		out = append(out, message[:n]...)
		message = message[n:]
	}
	return out
}

var hellosOf = []struct {
	name string
	make func(hello []byte) []byte
	err  error // nil: it is whole, and as long as extra says longer
}{
	{"a hello", bytes.Clone, nil},
	{"in records of 200", func(h []byte) []byte { return inRecords(h, 200) }, nil},
	{"in records of 1", func(h []byte) []byte { return inRecords(h, 1) }, ErrNotTLS},
	{"HTTP", func([]byte) []byte { return []byte("GET / HTTP/1.1\r\n") }, ErrNotTLS},
	{"an alert", func([]byte) []byte { return []byte{21, 3, 1, 0, 2, 2, 40} }, ErrNotTLS},
	{"an empty record", func([]byte) []byte { return []byte{recordType, 3, 1, 0, 0} }, ErrNotTLS},
	{"another message", func([]byte) []byte { return []byte{recordType, 3, 1, 0, 4, 2, 0, 0, 0} }, ErrNotTLS},
	{"a record that is long", func([]byte) []byte { return []byte{recordType, 3, 1, 0x40, 0} }, ErrHelloTooLong},
	{"a message that is long", func([]byte) []byte { return []byte{recordType, 3, 1, 0, 4, helloType, 1, 0, 0} }, ErrHelloTooLong},
}

func TestProgress(t *testing.T) {
	hello := helloOf(t)
	for _, tc := range hellosOf {
		in := tc.make(hello)
		for step := range 3 {
			var p Progress
			more := append(bytes.Clone(in), "more"...)
			for n := 0; ; n = min(n+1<<(8*step), len(more)) {
				need, whole, err := p.Look(more[:n])
				if err == nil && !whole {
					if need <= n {
						t.Fatalf("%s: with %d bytes it asks for %d", tc.name, n, need)
					}
					if n == len(more) {
						t.Fatalf("%s: not whole with %d bytes", tc.name, n)
					}
					continue
				}
				if !errors.Is(err, tc.err) || whole && need != len(in) {
					t.Errorf("%s: %d of %d bytes, %v", tc.name, need, len(in), err)
				}
				if whole && !bytes.Equal(Message(in), hello[recordHeader+messageHeader:]) {
					t.Errorf("%s: the message is another one", tc.name)
				}
				break
			}
		}
	}
}

// FuzzProgress: it says the same whether it sees all at once or bit by bit, never asks for what it has nor for more than there may be, and what is whole is a message.
func FuzzProgress(f *testing.F) {
	hello := helloOf(f)
	for _, tc := range hellosOf {
		f.Add(tc.make(hello))
	}
	f.Add(hello[:60])
	f.Fuzz(func(t *testing.T, in []byte) {
		var once, slow Progress
		need, whole, err := once.Look(in)
		if need > MaxHello+recordHeader || err == nil && !whole && need <= len(in) || whole && need > len(in) {
			t.Fatalf("%d bytes, whole %v, of %d: %v", need, whole, len(in), err)
		}
		if whole && len(Message(in[:need])) > MaxHello {
			t.Fatal("a message that is long")
		}
		for n := range len(in) + 1 {
			n, w, e := slow.Look(in[:n])
			if w || e != nil {
				if n != need || w != whole || !errors.Is(e, err) {
					t.Fatalf("bit by bit %d %v %v, at once %d %v %v", n, w, e, need, whole, err)
				}
				return
			}
		}
		if whole || err != nil {
			t.Fatal("bit by bit it never ends")
		}
	})
}

// pair is a TCP connection: who connects, and the other end in a room.
func pair(t *testing.T, r *Room, turns Turns) (net.Conn, *Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	far, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close(); near.Close() })
	c, err := r.Enter(near, turns)
	if err != nil {
		t.Fatal(err)
	}
	return far, c
}

// It waits for all of a hello, however that comes, and takes nothing of it.
func TestHello(t *testing.T) {
	hello := helloOf(t)
	for _, tc := range hellosOf {
		for _, step := range []int{1, 1 << 20} {
			in, r := tc.make(hello), NewRoom(1, 1)
			far, c := pair(t, r, nil)
			done := make(chan error, 1)
			go func() { done <- c.Hello(t.Context()) }()
			for rest := in; len(rest) > 0; rest = rest[min(step, len(rest)):] {
				select {
				case err := <-done:
					if tc.err == nil {
						t.Fatalf("%s: it ends %d bytes too early: %v", tc.name, len(rest), err)
					}
					done <- err
				default:
				}
				if _, err := far.Write(rest[:min(step, len(rest))]); err != nil {
					break // it was refused
				}
			}
			if err := <-done; !errors.Is(err, tc.err) {
				t.Errorf("%s: %v", tc.name, err)
			}
			if tc.err != nil {
				continue
			}
			// What comes later wakes whoever reads, as ever.
			got := make([]byte, len(in)+1)
			if _, err := io.ReadFull(c, got[:len(in)]); err != nil || !bytes.Equal(got[:len(in)], in) {
				t.Fatalf("%s: read %v", tc.name, err)
			}
			go far.Write([]byte{7}) // it is read, or the test ends in time
			if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c, got[len(in):]); err != nil || got[len(in)] != 7 {
				t.Errorf("%s: a byte after it: %v", tc.name, err)
			}
		}
	}
}

func TestHelloThatDoesNotCome(t *testing.T) {
	r := NewRoom(1, 1)
	far, c := pair(t, r, nil)
	if _, err := far.Write([]byte{recordType, 3}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := c.Hello(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it ends with %v", err)
	}
	c.Leave()

	far, c = pair(t, r, nil)
	far.Close()
	if err := c.Hello(t.Context()); !errors.Is(err, io.EOF) {
		t.Errorf("who ends without a word: %v", err)
	}
}
