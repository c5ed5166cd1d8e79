// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/gateway"
	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

const (
	bulkRounds = 7         // of each, alternating, so that a busy neighbour hurts both
	bulkBytes  = 128 << 20 // per round; windows and buffers have grown after 10 MiB
	bulkGoal   = 1.35      // at most: frames, windows and queues may cost a third of what TLS and the copying cost
)

// gatewayBulk sends bytes through a gateway's outer tunnel to an endpoint that drops them, and compares with a program that ends the same TLS
// and copies to the same endpoint. Both ends and the middle share this process and the loopback; what is compared is the processor time of all
// of them, which does not depend on who else uses the machine as much as the time on the wall does.
func gatewayBulk(ctx context.Context, out io.Writer) (result, error) {
	b, err := newBulk(ctx)
	if err != nil {
		return result{}, err
	}
	defer b.close()
	var through, bare []float64
	for round := range bulkRounds {
		t, err := b.send(ctx, b.throughGateway)
		if err != nil {
			return result{}, fmt.Errorf("through the gateway: %w", err)
		}
		c, err := b.send(ctx, b.throughForwarder)
		if err != nil {
			return result{}, fmt.Errorf("through the bare forwarder: %w", err)
		}
		through, bare = append(through, t.perGB(bulkBytes)), append(bare, c.perGB(bulkBytes))
		fmt.Fprintf(out, "round %d: gateway %.2f CPU-s/GB at %.2f GB/s, bare TLS forwarder %.2f CPU-s/GB at %.2f GB/s\n",
			round+1, t.perGB(bulkBytes), t.speed(bulkBytes), c.perGB(bulkBytes), c.speed(bulkBytes))
	}
	control := median(bare)
	value := median(through) / control
	fmt.Fprintf(out, "median: gateway %.2f CPU-s/GB; the control is the bare forwarder's, the value their ratio, the goal its upper bound\n", median(through))
	return result{Value: value, Unit: "ratio", Control: &control, Goal: bulkGoal, Pass: value <= bulkGoal}, nil
}

// bulk is the set-up: a gateway, a forwarder, and an endpoint behind both.
type bulk struct {
	source           *mtls.Source
	gatewayAddress   string
	forwarderAddress string
	stop             context.CancelFunc
	wait             sync.WaitGroup
}

const bulkAuthority = "cart.shop.svc.cluster.local:80"

func newBulk(ctx context.Context) (*bulk, error) {
	source, err := newSource()
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	b := &bulk{source: source, stop: stop}
	sink, err := b.serve(ctx, func(nc net.Conn) { _, _ = io.CopyBuffer(onlyWriter{io.Discard}, nc, make([]byte, 256<<10)) })
	if err == nil {
		b.forwarderAddress, err = b.serve(ctx, func(nc net.Conn) { b.forward(ctx, nc, sink) })
	}
	if err == nil {
		err = b.startGateway(ctx, sink)
	}
	if err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

// onlyWriter hides what would make a copy faster than reading.
type onlyWriter struct{ io.Writer }

// serve accepts on the loopback until ctx ends.
func (b *bulk) serve(ctx context.Context, f func(nc net.Conn)) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	context.AfterFunc(ctx, func() { l.Close() })
	b.wait.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			b.wait.Go(func() {
				defer nc.Close()
				defer context.AfterFunc(ctx, func() { nc.Close() })()
				f(nc)
			})
		}
	})
	return l.Addr().String(), nil
}

// forward is the control: the same TLS and the same copying, and nothing between.
func (b *bulk) forward(ctx context.Context, nc net.Conn, to string) {
	secure := tls.Server(nc, b.source.Server(serverIdentity))
	if err := secure.HandshakeContext(ctx); err != nil {
		return
	}
	next, err := new(net.Dialer).DialContext(ctx, "tcp", to)
	if err != nil {
		return
	}
	_ = relay.Copy(ctx, secure, relay.AsConn(next), &relay.Stats{}) // ends with the client's connection
}

func (b *bulk) startGateway(ctx context.Context, sink string) error {
	key := mesh.ServiceKey{Namespace: "shop", Hostname: "cart.shop.svc.cluster.local"}
	gatewayKey := mesh.GatewayKey{Namespace: "edge", Name: "west"}
	live := directory.NewLive()
	live.Apply(mesh.Delta{
		Gateways: map[mesh.GatewayKey]*mesh.Gateway{gatewayKey: {
			Namespace: "edge", Name: "west", Network: "west", Exports: []mesh.ServiceKey{key},
			Listeners: []mesh.Listener{{Name: "mesh", Port: mesh.HBONEPort, Bind: mesh.HBONEPort, Protocol: mesh.ListenerHBONE}},
		}},
		Services: map[mesh.ServiceKey]*mesh.Service{key: {Namespace: "shop", Name: "cart", Hostname: key.Hostname, Ports: []mesh.Port{{Service: 80, Target: 80}}}},
		Workloads: map[string]*mesh.Workload{"pod": {
			UID: "pod", Namespace: "shop", Name: "cart-1", Network: "west", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, Tunnel: mesh.TunnelHBONE,
			Services: map[mesh.ServiceKey][]mesh.Port{key: {{Service: 80, Target: 80}}},
		}},
	})
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	b.gatewayAddress = listener.Addr().String()
	server, err := gateway.NewServer(gateway.Options{
		Log: logr.Discard(), Access: logr.Discard(), Gateway: gatewayKey, Identity: serverIdentity, Directory: live, Source: b.source,
		Metrics: prometheus.NewRegistry(),
		Listen:  func(uint16) (net.Listener, error) { return listener, nil },
		Dial: func(ctx context.Context, _ netip.AddrPort) (relay.Conn, error) {
			nc, err := new(net.Dialer).DialContext(ctx, "tcp", sink)
			if err != nil {
				return nil, err
			}
			return relay.AsConn(nc), nil
		},
	})
	if err != nil {
		listener.Close()
		return err
	}
	b.wait.Go(func() { server.Run(ctx) })
	return nil
}

func (b *bulk) close() {
	b.stop()
	b.wait.Wait()
	b.source.Close()
}

// connect makes a TLS connection to one of the two.
func (b *bulk) connect(ctx context.Context, address string) (*tls.Conn, error) {
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	secure := tls.Client(hbone.NewTransport(nc), b.source.Client(clientIdentity, []mesh.Identity{serverIdentity}))
	if err := secure.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, err
	}
	return secure, nil
}

func (b *bulk) throughForwarder(ctx context.Context) (relay.Conn, error) {
	return b.connect(ctx, b.forwarderAddress)
}

func (b *bulk) throughGateway(ctx context.Context) (relay.Conn, error) {
	secure, err := b.connect(ctx, b.gatewayAddress)
	if err != nil {
		return nil, err
	}
	conn, err := hbone.NewClient(secure, hbone.Settings{})
	if err != nil {
		return nil, err
	}
	stream, _, err := conn.Open(ctx, bulkAuthority, nil)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return tunnel{stream}, nil
}

// tunnel ends its connection with its stream.
type tunnel struct{ *hbone.Stream }

func (t tunnel) Close() error { return errors.Join(t.Stream.Close(), t.Conn().Close()) }

// send sends one round's bytes, and waits until the endpoint has read them all and ended its side.
func (b *bulk) send(ctx context.Context, open func(context.Context) (relay.Conn, error)) (spent, error) {
	w, err := open(ctx)
	if err != nil {
		return spent{}, err
	}
	defer w.Close()
	defer context.AfterFunc(ctx, func() { w.Close() })()
	block := make([]byte, 256<<10)
	runtime.GC() // not one side's garbage on the other's bill
	return spend(func() error {
		for sent := 0; sent < bulkBytes; sent += len(block) {
			if _, err := w.Write(block); err != nil {
				return err
			}
		}
		if err := w.CloseWrite(); err != nil {
			return err
		}
		_, err := io.Copy(io.Discard, w)
		return err
	})
}
