// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/test/hostile"
)

// handshakesAtOnce bounds the handshakes per address that the victim and the sink are at, as the gateway's Limits do, but smaller.
const handshakesAtOnce = 32

// enemyAddress is where the attackers come from: a bound per address is a part of the defence.
const enemyAddress = "127.0.0.2"

// victim serves HBONE to good and bad alike; on another port it is a sink, which takes bytes and does nothing with them.
type victim struct {
	address, sink string
	connections   atomic.Int64 // of attackers, now
	streams       atomic.Int64 // likewise

	wait sync.WaitGroup
	stop context.CancelFunc
}

func startVictim(ctx context.Context) (*victim, error) {
	ctx, stop := context.WithCancel(ctx)
	v := &victim{stop: stop}
	var err error
	if v.address, err = v.listen(ctx, v.serve); err == nil {
		v.sink, err = v.listen(ctx, v.drain)
	}
	if err != nil {
		v.close()
		return nil, err
	}
	return v, nil
}

func (v *victim) close() {
	v.stop()
	v.wait.Wait()
}

// listen accepts connections and makes TLS of them, a bounded number at a time and per address.
func (v *victim) listen(ctx context.Context, f func(context.Context, *tls.Conn)) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	context.AfterFunc(ctx, func() { l.Close() })
	var mu sync.Mutex
	busy := map[string]int{} // handshakes by address
	book := func(address string, n int) bool {
		mu.Lock()
		defer mu.Unlock()
		if busy[address]+n > handshakesAtOnce {
			return false
		}
		busy[address] += n
		return true
	}
	v.wait.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			address := from(nc)
			if !book(address, 1) {
				nc.Close()
				continue
			}
			if tcp, ok := nc.(*net.TCPConn); ok && address == enemyAddress {
				// An attacker has time to let megabytes gather in the kernel. Here they would only make the row longer.
				_ = tcp.SetWriteBuffer(8 << 10)
			}
			v.wait.Go(func() {
				defer nc.Close()
				defer context.AfterFunc(ctx, func() { nc.Close() })()
				secure := tls.Server(under(nc), hostile.TLS())
				late := time.AfterFunc(10*time.Second, func() { nc.Close() })
				err := secure.HandshakeContext(ctx)
				late.Stop()
				book(address, -1)
				if err == nil {
					f(ctx, secure)
				}
			})
		}
	})
	return l.Addr().String(), nil
}

func (v *victim) serve(ctx context.Context, nc *tls.Conn) {
	bad := from(nc) == enemyAddress
	if bad {
		v.connections.Add(1)
		defer v.connections.Add(-1)
	}
	conn := hbone.NewServer(nc, hbone.Settings{})
	defer conn.Close()
	for {
		r, err := conn.Accept(ctx)
		if err != nil {
			return
		}
		v.wait.Go(func() {
			if bad {
				v.streams.Add(1)
				defer v.streams.Add(-1)
			}
			answer(r)
		})
	}
}

func from(nc net.Conn) string { return nc.RemoteAddr().(*net.TCPAddr).IP.String() }

// answer does what the attacks expect of their targets.
func answer(r *hbone.Request) {
	if r.Authority == hostile.Mute {
		<-r.Context().Done()
		_ = r.Reject(503, nil) // there is nobody left who would hear it
		return
	}
	stream, err := r.Accept(nil)
	if err != nil {
		return
	}
	defer stream.Close()
	buf := make([]byte, pingSize)
	for {
		n, err := stream.Read(buf)
		if err != nil {
			return
		}
		if _, err := stream.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (v *victim) drain(_ context.Context, nc *tls.Conn) {
	// However it ends, it has served its purpose.
	_, _ = io.CopyBuffer(onlyWriter{io.Discard}, nc, make([]byte, 16<<10))
}

// memory is what this process holds on its heap and its stacks, in bytes.
func memory() int64 {
	heap, stacks := hostile.Memory()
	return heap + stacks
}
