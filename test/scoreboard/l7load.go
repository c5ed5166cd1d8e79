// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	l7Connections = 64
	l7Body        = 1 << 10 // bytes of an answer
)

// l7Origin is the backend: net/http, which says a KiB.
func l7Origin(ctx context.Context) (address string, stop func(), err error) {
	socket, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	body := bytes.Repeat([]byte("x"), l7Body)
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(body) // who left gets nothing
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(socket) // until it is closed
	}()
	return socket.Addr().String(), func() { server.Close(); <-done }, nil
}

// l7Client is one keep-alive connection that asks for the same again and again. It reads no more of an answer than it must, to leave the cores to others.
type l7Client struct {
	nc net.Conn
	in *bufio.Reader
}

var l7Request = []byte("GET /cart HTTP/1.1\r\nHost: cart.example.com\r\nUser-Agent: scoreboard\r\nAccept: */*\r\n\r\n")

// ask is one request and its answer.
func (c *l7Client) ask() error {
	if _, err := c.nc.Write(l7Request); err != nil {
		return err
	}
	sized := false
	for first := true; ; first = false {
		line, err := c.in.ReadSlice('\n')
		switch {
		case err != nil:
			return err
		case first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")):
			return fmt.Errorf("the answer begins with %q", line)
		case len(line) == 2 && sized:
			_, err := c.in.Discard(l7Body)
			return err
		case len(line) == 2:
			return errors.New("the answer does not say that it has 1,024 bytes")
		case len(line) > 15 && strings.EqualFold(string(line[:15]), "content-length:"):
			sized = string(bytes.TrimSpace(line[15:])) == "1024"
		}
	}
}

// l7Load has connections to one proxy.
type l7Load []*l7Client

func newL7Load(ctx context.Context, address string) (l7Load, error) {
	var out l7Load
	var dialer net.Dialer
	for range l7Connections {
		nc, err := dialer.DialContext(ctx, "tcp", address)
		if err != nil {
			out.close()
			return nil, err
		}
		out = append(out, &l7Client{nc, bufio.NewReader(nc)})
	}
	return out, nil
}

func (l l7Load) close() {
	for _, c := range l {
		c.nc.Close()
	}
}

// flatOut asks as fast as answers come, and gives how many came a second.
func (l l7Load) flatOut(ctx context.Context, length time.Duration) (float64, error) {
	var asked atomic.Int64
	errs := make([]error, len(l))
	began := time.Now()
	deadline := began.Add(length)
	var wg sync.WaitGroup
	for i, c := range l {
		wg.Go(func() {
			n := int64(0)
			for ctx.Err() == nil && time.Now().Before(deadline) {
				if errs[i] = c.ask(); errs[i] != nil {
					break
				}
				n++
			}
			asked.Add(n)
		})
	}
	wg.Wait()
	if err := errors.Join(errors.Join(errs...), ctx.Err()); err != nil {
		return 0, err
	}
	return float64(asked.Load()) / time.Since(began).Seconds(), nil
}

// paced asks at a rate, whatever the answers take, and gives the time from when each was due to when it was answered, in seconds.
func (l l7Load) paced(ctx context.Context, rate float64, length time.Duration) ([]float64, error) {
	errs := make([]error, len(l))
	took := make([][]float64, len(l))
	gap := time.Duration(float64(len(l)) / rate * float64(time.Second))
	began := time.Now()
	var wg sync.WaitGroup
	for i, c := range l {
		wg.Go(func() {
			for due := began.Add(gap * time.Duration(i) / time.Duration(len(l))); due.Before(began.Add(length)) && ctx.Err() == nil; due = due.Add(gap) {
				time.Sleep(time.Until(due))
				if errs[i] = c.ask(); errs[i] != nil {
					return
				}
				took[i] = append(took[i], time.Since(due).Seconds())
			}
		})
	}
	wg.Wait()
	var all []float64
	for _, t := range took {
		all = append(all, t...)
	}
	return all, errors.Join(errors.Join(errs...), ctx.Err())
}
