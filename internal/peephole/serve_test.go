// SPDX-License-Identifier: Apache-2.0

package peephole

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// onlooker is a connection that asks, and keeps itself open.
type onlooker struct {
	net.Conn
	r *bufio.Reader
}

func look(t *testing.T, from, at string) *onlooker {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 5 * time.Second}
	nc, err := dialer.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return &onlooker{nc, bufio.NewReader(nc)}
}

func (o *onlooker) ask() error {
	if err := o.SetDeadline(time.Now().Add(10 * time.Second)); err != nil { // of each question: there are hundreds
		return err
	}
	if _, err := io.WriteString(o, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return err
	}
	answer, err := http.ReadResponse(o.r, nil)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, answer.Body)
	return err
}

func serve(t *testing.T, h http.Handler) (at string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, h) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

var hello = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })

// TestWhoFloodsGivesWay: one address opens connections and keeps them. Others that are there stay, and new ones are answered.
func TestWhoFloodsGivesWay(t *testing.T) {
	at := serve(t, hello)
	kubelet := look(t, "127.0.0.2", at)
	if err := kubelet.ask(); err != nil {
		t.Fatal(err)
	}
	var flood []*onlooker
	for range maxConnections + 50 {
		one := look(t, "127.0.0.3", at)
		if err := one.ask(); err != nil {
			t.Fatal(err)
		}
		flood = append(flood, one)
	}
	if err := kubelet.ask(); err != nil {
		t.Errorf("who was there before the flood: %v", err)
	}
	if err := look(t, "127.0.0.4", at).ask(); err != nil {
		t.Errorf("who came in the flood: %v", err)
	}
	open := 0
	for _, one := range flood {
		if one.ask() == nil {
			open++
		}
	}
	if open != maxConnections-2 {
		t.Errorf("%d of the flood's connections are open, want %d", open, maxConnections-2)
	}
}

// pipes is a listener of connections that a clock in a bubble can count for.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	nc, ok := <-p
	if !ok {
		return nil, errors.New("closed")
	}
	return nc, nil
}
func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// TestWhoIsSilentGoes: neither who asks nothing, nor who asks no more, nor who does not take an answer keeps a connection.
func TestWhoIsSilentGoes(t *testing.T) {
	large := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 1<<20)) })
	for name, tc := range map[string]struct {
		h       http.Handler
		ask     bool
		read    int // bytes
		patient time.Duration
	}{
		"asks nothing": {hello, false, 0, asking}, "asks no more": {hello, true, 1 << 20, idle}, "takes no answer": {large, true, 100, MaxAnswer},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := make(pipes, 1)
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- Serve(ctx, l, tc.h) }()
				ours, theirs := net.Pipe()
				ended := make(chan time.Time, 1)
				l <- &watched{Conn: theirs, ended: ended}
				if tc.ask {
					go io.WriteString(ours, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
					go io.CopyN(io.Discard, ours, int64(tc.read))
				}
				began := time.Now()
				if took := (<-ended).Sub(began); took > tc.patient+time.Second {
					t.Errorf("kept for %v, want %v", took, tc.patient)
				}
				ours.Close()
				cancel()
				close(l)
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// watched tells when it was closed first.
type watched struct {
	net.Conn
	ended chan time.Time
}

func (w *watched) Close() error {
	select {
	case w.ended <- time.Now():
	default:
	}
	return w.Conn.Close()
}
