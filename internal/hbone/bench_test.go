// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"io"
	"net"
	"syscall"
	"testing"
)

// The benchmarks come in pairs: a path of ours and its control, so that what counts, their ratio, can be taken from one run.

func benchBulk(b *testing.B, from, to net.Conn, block int) {
	b.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 256<<10)
		for {
			if _, err := to.Read(buf); err != nil {
				return
			}
		}
	}()
	data := make([]byte, block)
	b.SetBytes(int64(block))
	b.ReportAllocs()
	before := cpu(b)
	for b.Loop() {
		if _, err := from.Write(data); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	b.ReportMetric((cpu(b)-before)/(float64(b.N)*float64(block)/1e9), "cpu-s/GB")
	_ = from.Close()
	_ = to.Close()
	<-done
}

// cpu is the processor time that this process has used, in seconds. Unlike the throughput it hardly minds what else the machine does.
func cpu(b *testing.B) float64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

func BenchmarkBulk(b *testing.B) {
	b.Run("tls", func(b *testing.B) {
		x, y := bareTLS(tcpPair(b))
		handshake(b, x, y)
		benchBulk(b, x, y, 256<<10)
	})
	b.Run("hbone", func(b *testing.B) {
		x, y := secure(tcpPair(b))
		c, s := join(b, x, y, Settings{}, Settings{})
		from, to := open(b, c, s)
		benchBulk(b, from, to, 256<<10)
	})
}

func BenchmarkDoubleBulk(b *testing.B) {
	b.Run("tls", func(b *testing.B) {
		x, y := bareTLS(tcpPair(b))
		x, y = bareTLS(x, y)
		handshake(b, x, y)
		benchBulk(b, x, y, 256<<10)
	})
	b.Run("hbone", func(b *testing.B) {
		from, to := nested(b)
		benchBulk(b, from, to, 256<<10)
	})
}

func benchPingPong(b *testing.B, x, y net.Conn) {
	b.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1<<10)
		for {
			if _, err := io.ReadFull(y, buf); err != nil {
				return
			}
			if _, err := y.Write(buf); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, 1<<10)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := x.Write(buf); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(x, buf); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	_ = x.Close()
	_ = y.Close()
	<-done
}

func BenchmarkPingPong(b *testing.B) {
	b.Run("tls", func(b *testing.B) {
		x, y := bareTLS(tcpPair(b))
		handshake(b, x, y)
		benchPingPong(b, x, y)
	})
	b.Run("hbone", func(b *testing.B) {
		x, y := secure(tcpPair(b))
		c, s := join(b, x, y, Settings{}, Settings{})
		from, to := open(b, c, s)
		benchPingPong(b, from, to)
	})
}

// BenchmarkOpen opens a stream, sends a byte each way and closes it, on one connection.
func BenchmarkOpen(b *testing.B) {
	x, y := secure(tcpPair(b))
	c, s := join(b, x, y, Settings{}, Settings{})
	go func() {
		for {
			r, err := s.Accept(b.Context())
			if err != nil {
				return
			}
			st, err := r.Accept(nil)
			if err != nil {
				continue
			}
			go func() {
				_, _ = io.Copy(st, st)
				_ = st.Close()
			}()
		}
	}()
	b.ReportAllocs()
	for b.Loop() {
		st, _, err := c.Open(b.Context(), "10.0.0.1:80", nil)
		if err != nil {
			b.Fatal(err)
		}
		var buf [1]byte
		if _, err := st.Write(buf[:]); err != nil {
			b.Fatal(err)
		}
		_ = st.CloseWrite()
		if got, err := io.ReadAll(st); err != nil || len(got) != 1 {
			b.Fatal(len(got), err)
		}
		_ = st.Close()
	}
}
