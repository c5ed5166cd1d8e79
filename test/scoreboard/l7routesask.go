// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// routeHeader is what each route has its requests carry: its own name, which the backend repeats. So an answer says which route it came by.
const routeHeader = "X-Route"

// serveRouteNames is a backend that answers by which route a request came.
func serveRouteNames(l net.Listener) (stop func()) {
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get(routeHeader)) // who left gets nothing
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // until it is closed
	}()
	return func() { server.Close(); <-done }
}

// routeVisitor is one keep-alive connection that asks by routes.
type routeVisitor struct {
	dial func(context.Context) (net.Conn, error)
	nc   net.Conn
	in   *bufio.Reader
}

func (v *routeVisitor) close() {
	if v.nc != nil {
		v.nc.Close()
		v.nc = nil
	}
}

// ask asks for what a route is for, and gives the answer's status and body. After an error the next request has a connection of its own.
func (v *routeVisitor) ask(ctx context.Context, route string) (status int, body string, err error) {
	if v.nc == nil {
		if v.nc, err = v.dial(ctx); err != nil {
			return 0, "", err
		}
		v.in = bufio.NewReader(v.nc)
	}
	defer func() {
		if err != nil {
			v.close()
		}
	}()
	if err := v.nc.SetDeadline(time.Now().Add(discoveryWait)); err != nil {
		return 0, "", err
	}
	if _, err := fmt.Fprintf(v.nc, "GET /%s/things HTTP/1.1\r\nHost: %s.example.com\r\n\r\n", route, route); err != nil {
		return 0, "", err
	}
	length := -1
	for {
		line, err := v.in.ReadSlice('\n')
		if err != nil {
			return 0, "", err
		}
		line = bytes.TrimRight(line, "\r\n")
		name, value, header := strings.Cut(string(line), ":")
		switch {
		case status == 0:
			if _, err := fmt.Sscanf(string(line), "HTTP/1.1 %d ", &status); err != nil {
				return 0, "", fmt.Errorf("the answer begins with %q", line)
			}
		case header && strings.EqualFold(name, "content-length"):
			if length, err = strconv.Atoi(strings.TrimSpace(value)); err != nil {
				return 0, "", err
			}
		case len(line) == 0 && length < 0:
			return 0, "", errors.New("the answer does not say how long it is")
		case len(line) == 0:
			text := make([]byte, length)
			_, err := io.ReadFull(v.in, text)
			return status, string(text), err
		}
	}
}

// routeLoad asks by routes at a steady rate, all the time, and counts what went wrong.
type routeLoad struct {
	answered, dropped, wrong atomic.Int64
	first                    sync.Once
	problem                  string // the first
	stop                     context.CancelFunc
	running                  sync.WaitGroup
}

// startRouteLoad begins, with a number of connections and a rate of requests a second of all of them together.
func startRouteLoad(ctx context.Context, dial func(context.Context) (net.Conn, error), routes []string, connections int, rate float64) *routeLoad {
	l := &routeLoad{}
	ctx, l.stop = context.WithCancel(ctx)
	gap := time.Duration(float64(connections) / rate * float64(time.Second))
	began := time.Now()
	for i := range connections {
		l.running.Go(func() {
			v := &routeVisitor{dial: dial}
			defer v.close()
			due := began.Add(gap * time.Duration(i) / time.Duration(connections))
			for n := i; ctx.Err() == nil; n += connections {
				time.Sleep(time.Until(due))
				due = due.Add(gap)
				l.count(v, routes[n*7919%len(routes)]) // a prime: neighbours in time are none in the table
			}
		})
	}
	return l
}

// count asks once. It does not end with the load: a request that has begun is to be answered.
func (l *routeLoad) count(v *routeVisitor, route string) {
	status, body, err := v.ask(context.Background(), route)
	switch {
	case err != nil:
		l.dropped.Add(1)
		l.first.Do(func() { l.problem = route + ": " + err.Error() })
	case status != http.StatusOK || body != route:
		l.wrong.Add(1)
		l.first.Do(func() { l.problem = fmt.Sprintf("%s: status %d, by route %q", route, status, body) })
	default:
		l.answered.Add(1)
	}
}

// end waits for the requests that are under way.
func (l *routeLoad) end() {
	l.stop()
	l.running.Wait()
}
