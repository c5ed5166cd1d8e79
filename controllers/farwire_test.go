// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// What a wire does with what it carries.
const (
	wirePasses    = int32(iota)
	wireSwallows  // a black hole: connections are made, and nothing comes back
	wireTrickles  // a byte a second comes back
	wireIsDown    // connections end, and no others are made
	wireIsFlappy  // down and up again, each for longer than one question is asked again (client-go does, each second)
	flapEvery     = probeTimeout + time.Second
	trickleEvery  = time.Second
	wireTickEvery = 50 * time.Millisecond
)

// farWire is a TCP connection's way to a far API server, below TLS. It knows bytes only.
type farWire struct {
	net.Listener
	to   atomic.Pointer[string]
	mode atomic.Int32

	running sync.WaitGroup
	closed  chan struct{}
	mu      sync.Mutex
	open    map[net.Conn]struct{}
}

// newFarWire listens at an address and leads to another one.
func newFarWire(at, to string) *farWire {
	GinkgoHelper()
	listener, err := net.Listen("tcp", at)
	Expect(err).NotTo(HaveOccurred())
	return newFarWireOn(listener, to)
}

// newFarWireOn takes what comes to a listener, and closes it in the end.
func newFarWireOn(listener net.Listener, to string) *farWire {
	w := &farWire{Listener: listener, closed: make(chan struct{}), open: map[net.Conn]struct{}{}}
	w.lead(to)
	w.running.Go(w.accept)
	w.running.Go(w.keepDown)
	DeferCleanup(func() {
		close(w.closed)
		_ = w.Close()
		w.cut()
		w.running.Wait()
	})
	return w
}

// newFarDoors are two wires to one place, at two addresses with the same port, which is free at both.
func newFarDoors(to string) (*farWire, *farWire) {
	GinkgoHelper()
	for {
		first, err := net.Listen("tcp", "127.0.0.1:0")
		Expect(err).NotTo(HaveOccurred())
		_, port, _ := strings.Cut(first.Addr().String(), ":")
		second, err := net.Listen("tcp", "127.0.0.2:"+port)
		if err == nil {
			return newFarWireOn(first, to), newFarWireOn(second, to)
		}
		Expect(first.Close()).To(Succeed()) // somebody has the port there
	}
}

// set changes what happens from now on, also to what is open.
func (w *farWire) set(mode int32) { w.mode.Store(mode) }

// lead sends new connections to an address from now on.
func (w *farWire) lead(to string) { w.to.Store(&to) }

// now gives the mode with flapping taken out.
func (w *farWire) now() int32 {
	mode := w.mode.Load()
	if mode == wireIsFlappy {
		if time.Now().UnixMilli()/flapEvery.Milliseconds()%2 == 0 {
			return wireIsDown
		}
		return wirePasses
	}
	return mode
}

func (w *farWire) keepDown() {
	ticker := time.NewTicker(wireTickEvery)
	defer ticker.Stop()
	for {
		select {
		case <-w.closed:
			return
		case <-ticker.C:
			if w.now() == wireIsDown {
				w.cut()
			}
		}
	}
}

func (w *farWire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.open {
		_ = c.Close()
		delete(w.open, c)
	}
}

func (w *farWire) keep(c net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open[c] = struct{}{}
	select {
	case <-w.closed:
		_ = c.Close()
	default:
	}
}

func (w *farWire) accept() {
	for {
		near, err := w.Accept()
		if err != nil {
			return
		}
		if w.now() == wireIsDown {
			_ = near.Close()
			continue
		}
		far, err := net.Dial("tcp", *w.to.Load())
		if err != nil {
			_ = near.Close()
			continue
		}
		w.keep(near)
		w.keep(far)
		w.running.Go(func() { w.carry(far, near, false) })
		w.running.Go(func() { w.carry(near, far, true) })
	}
}

// carry copies one direction; back says that it is the one that comes back.
func (w *farWire) carry(to, from net.Conn, back bool) {
	defer to.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		for rest := buffer[:n]; len(rest) > 0; {
			step := len(rest)
			switch mode := w.now(); {
			case mode == wireSwallows:
				rest = nil
				continue
			case mode == wireTrickles && back:
				step = 1
				select {
				case <-w.closed:
					return
				case <-time.After(trickleEvery):
				}
			}
			if _, err := to.Write(rest[:step]); err != nil {
				return
			}
			rest = rest[step:]
		}
		if err != nil {
			if !errors.Is(err, io.EOF) && w.now() == wireSwallows {
				<-w.closed // even an end is swallowed
			}
			return
		}
	}
}
