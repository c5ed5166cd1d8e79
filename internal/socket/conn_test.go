// SPDX-License-Identifier: Apache-2.0

//go:build linux

package socket

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

// pair is a connection over loopback. It is closed with the test.
func pair(t testing.TB) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialled, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialled.Close(); accepted.Close() })
	return dialled.(*net.TCPConn), accepted.(*net.TCPConn)
}

func of(t testing.TB, tcp *net.TCPConn) *Conn {
	t.Helper()
	c := Of(tcp)
	if c == nil {
		t.Fatal("no Conn of a TCP connection")
	}
	return c
}

// TestOf: what there is a Conn of.
func TestOf(t *testing.T) {
	a, _ := pair(t)
	c := of(t, a)
	if Of(c) != c {
		t.Error("the Conn of a Conn is another one")
	}
	x, y := net.Pipe()
	defer x.Close()
	defer y.Close()
	if Of(x) != nil {
		t.Error("there is one of a pipe")
	}
}

// TestAsNet does the same by a Conn and by the *net.TCPConn that it is made of, and wants the same to come of it.
func TestAsNet(t *testing.T) {
	for _, tc := range []struct {
		what string
		do   func(t *testing.T, c net.Conn, peer *net.TCPConn) (int, error)
		want int
		is   error
	}{
		{what: "read what has come", want: 5, do: func(t *testing.T, c net.Conn, peer *net.TCPConn) (int, error) {
			peer.Write([]byte("hello"))
			return c.Read(make([]byte, 100))
		}},
		{what: "read into nothing", do: func(t *testing.T, c net.Conn, peer *net.TCPConn) (int, error) {
			peer.CloseWrite()
			return c.Read(nil)
		}},
		{what: "read what is yet to come", want: 5, do: func(t *testing.T, c net.Conn, peer *net.TCPConn) (int, error) {
			go peer.Write([]byte("hello"))
			return c.Read(make([]byte, 100))
		}},
		{what: "read the end", is: io.EOF, do: func(t *testing.T, c net.Conn, peer *net.TCPConn) (int, error) {
			peer.CloseWrite()
			return c.Read(make([]byte, 100))
		}},
		{what: "read after a deadline", is: os.ErrDeadlineExceeded, do: func(t *testing.T, c net.Conn, peer *net.TCPConn) (int, error) {
			c.SetReadDeadline(time.Unix(1, 0))
			return c.Read(make([]byte, 100))
		}},
		{what: "a deadline while it reads", is: os.ErrDeadlineExceeded, do: func(t *testing.T, c net.Conn, peer *net.TCPConn) (int, error) {
			c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
			return c.Read(make([]byte, 100))
		}},
		{what: "read what is closed", is: net.ErrClosed, do: func(t *testing.T, c net.Conn, peer *net.TCPConn) (int, error) {
			c.Close()
			return c.Read(make([]byte, 100))
		}},
		{what: "read what was reset", is: syscall.ECONNRESET, do: func(t *testing.T, c net.Conn, peer *net.TCPConn) (int, error) {
			peer.SetLinger(0)
			peer.Close()
			return c.Read(make([]byte, 100))
		}},
		{what: "write", want: 5, do: func(t *testing.T, c net.Conn, peer *net.TCPConn) (int, error) {
			return c.Write([]byte("hello"))
		}},
		{what: "write nothing", do: func(t *testing.T, c net.Conn, peer *net.TCPConn) (int, error) {
			return c.Write(nil)
		}},
		{what: "write more than there is room for", want: 64 << 20, do: func(t *testing.T, c net.Conn, peer *net.TCPConn) (int, error) {
			var reading sync.WaitGroup
			defer reading.Wait()
			defer c.Close()
			reading.Go(func() { io.Copy(io.Discard, peer) })
			return c.Write(make([]byte, 64<<20))
		}},
		{what: "write after a deadline", is: os.ErrDeadlineExceeded, do: func(t *testing.T, c net.Conn, peer *net.TCPConn) (int, error) {
			c.SetWriteDeadline(time.Unix(1, 0))
			return c.Write([]byte("hello"))
		}},
		{what: "write after our end", is: syscall.EPIPE, do: func(t *testing.T, c net.Conn, peer *net.TCPConn) (int, error) {
			c.(interface{ CloseWrite() error }).CloseWrite()
			return c.Write([]byte("hello"))
		}},
		{what: "write to what is closed", is: net.ErrClosed, do: func(t *testing.T, c net.Conn, peer *net.TCPConn) (int, error) {
			c.Close()
			return c.Write([]byte("hello"))
		}},
	} {
		t.Run(tc.what, func(t *testing.T) {
			var errs [2]error
			for i, make := range []func(*net.TCPConn) net.Conn{
				func(c *net.TCPConn) net.Conn { return c },
				func(c *net.TCPConn) net.Conn { return of(t, c) },
			} {
				a, b := pair(t)
				a.SetDeadline(time.Now().Add(time.Minute))
				n, err := tc.do(t, make(a), b)
				if n != tc.want || !errors.Is(err, tc.is) {
					t.Errorf("%d: %d, %v; want %d, %v", i, n, err, tc.want, tc.is)
				}
				errs[i] = err
			}
			var known, own *net.OpError
			if errors.As(errs[0], &known) != errors.As(errs[1], &own) || own != nil && (own.Op != known.Op || own.Timeout() != known.Timeout() || own.Err.Error() != known.Err.Error()) {
				t.Errorf("%#v is not as %#v", errs[1], errs[0])
			}
		})
	}
}

// TestTryWrite fills a socket that nobody reads, without waiting, and has all of it come out.
func TestTryWrite(t *testing.T) {
	a, b := pair(t)
	c := of(t, a)
	p := bytes.Repeat([]byte("0123456789"), 100<<10)
	var all int
	for {
		n, err := c.TryWrite(p)
		if err != nil {
			t.Fatal(err)
		}
		if all += n; n < len(p) {
			break
		}
	}
	if n, err := c.TryWrite(p[:1]); n != 0 || err != nil {
		t.Errorf("a full socket takes %d, %v", n, err)
	}
	c.Close()
	if got, err := io.ReadAll(b); len(got) != all || err != nil {
		t.Errorf("%d bytes came, %v; %d were taken", len(got), err, all)
	}
	if _, err := c.TryWrite(p); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// TestBothWays sends bytes both ways at once, in pieces on both sides of what is brief.
func TestBothWays(t *testing.T) {
	a, b := pair(t)
	ends := [2]*Conn{of(t, a), of(t, b)}
	const size = 8 << 20
	var sent [2][]byte
	var running sync.WaitGroup
	for i, c := range ends {
		rng := rand.New(rand.NewPCG(1, uint64(i)))
		sent[i] = make([]byte, size)
		for j := range sent[i] {
			sent[i][j] = byte(rng.Uint32())
		}
		running.Go(func() {
			for p := sent[i]; len(p) > 0; {
				n, err := c.Write(p[:min(len(p), 1+rng.IntN(3*brief))])
				if err != nil {
					t.Error(err)
					return
				}
				p = p[n:]
			}
			if err := c.CloseWrite(); err != nil {
				t.Error(err)
			}
		})
	}
	for i, c := range ends {
		rng := rand.New(rand.NewPCG(2, uint64(i)))
		running.Go(func() {
			var got []byte
			for p := make([]byte, 3*brief); ; {
				n, err := c.Read(p[:1+rng.IntN(len(p))])
				if got = append(got, p[:n]...); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Error(err)
					return
				}
			}
			if !bytes.Equal(got, sent[1-i]) {
				t.Errorf("%d bytes came that are not the %d that were sent", len(got), size)
			}
		})
	}
	running.Wait()
}

// TestNoAllocation: a round trip allocates nothing.
func TestNoAllocation(t *testing.T) {
	a, b := pair(t)
	c, d := of(t, a), of(t, b)
	p := make([]byte, 1<<10)
	if n := testing.AllocsPerRun(100, func() {
		c.Write(p)
		io.ReadFull(d, p)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkRoundTrip is 1 KiB there and back, by a Conn and by the *net.TCPConn that it is made of.
func BenchmarkRoundTrip(b *testing.B) {
	for name, make1 := range map[string]func(*net.TCPConn) net.Conn{
		"net":    func(c *net.TCPConn) net.Conn { return c },
		"socket": func(c *net.TCPConn) net.Conn { return of(b, c) },
	} {
		b.Run(name, func(b *testing.B) {
			x, y := pair(b)
			c, d := make1(x), make1(y)
			go func() {
				p := make([]byte, 1<<10)
				for {
					n, err := d.Read(p)
					if err != nil {
						return
					}
					d.Write(p[:n])
				}
			}()
			p := make([]byte, 1<<10)
			for b.Loop() {
				c.Write(p)
				if _, err := io.ReadFull(c, p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
