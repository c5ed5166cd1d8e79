// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const l7GRPCConnections = 4 // of clients, with 16 calls at once on each

// l7GRPCOrigin is a server of gRPC that gives back what it is sent.
func l7GRPCOrigin(ctx context.Context) (address string, stop func(), err error) {
	socket, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		m := new(wrapperspb.BytesValue)
		if err := stream.RecvMsg(m); err != nil {
			return err
		}
		return stream.SendMsg(m)
	}))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(socket) // until it is stopped
	}()
	return socket.Addr().String(), func() { server.Stop(); <-done }, nil
}

// l7Calls makes unary calls of 1 KiB, 64 at once, and gives how many were answered a second.
func l7Calls(ctx context.Context, conns []*grpc.ClientConn, length time.Duration) (float64, error) {
	var answered atomic.Int64
	errs := make([]error, l7Connections)
	began := time.Now()
	var wg sync.WaitGroup
	for i := range l7Connections {
		wg.Go(func() {
			asked := wrapperspb.Bytes(make([]byte, l7Body))
			for time.Since(began) < length {
				got := new(wrapperspb.BytesValue)
				if errs[i] = conns[i%len(conns)].Invoke(ctx, "/shop.Cart/Get", asked, got); errs[i] != nil {
					return
				}
				answered.Add(1)
			}
		})
	}
	wg.Wait()
	return float64(answered.Load()) / time.Since(began).Seconds(), errors.Join(errs...)
}

// l7GRPC makes calls through the gateway and Traefik, in turns.
func l7GRPC(ctx context.Context, out io.Writer) (result, error) {
	backend, stop, err := l7GRPCOrigin(ctx)
	if err != nil {
		return result{}, err
	}
	defer stop()
	proxies, err := startProxies(ctx, out, backend, true, "traefik")
	if err != nil {
		return result{}, err
	}
	defer proxies.stop()
	if len(proxies.missing) > 0 {
		return result{}, errors.New("there is no Traefik to compare with")
	}
	conns := map[string][]*grpc.ClientConn{}
	for _, p := range proxies.list {
		for range l7GRPCConnections {
			conn, err := grpc.NewClient("passthrough:///"+p.address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("cart.example.com"))
			if err != nil {
				return result{}, err
			}
			defer conn.Close() //nolint:errcheck // nothing is lost with it
			conns[p.name] = append(conns[p.name], conn)
		}
		if _, err := l7Calls(ctx, conns[p.name], l7Warm); err != nil {
			return result{}, fmt.Errorf("%s: %w", p.name, err)
		}
	}
	all := map[string][]float64{}
	for round := range l7Rounds {
		line := fmt.Sprintf("round %d:", round+1)
		for i := range proxies.list {
			p := proxies.list[(i+round)%len(proxies.list)]
			v, err := l7Calls(ctx, conns[p.name], l7Slice)
			if err != nil {
				return result{}, fmt.Errorf("%s: %w", p.name, err)
			}
			all[p.name] = append(all[p.name], v)
			line += fmt.Sprintf(" %s %s", p.name, withUnit(v, ""))
		}
		fmt.Fprintln(out, line)
	}
	control := median(all["traefik"])
	f := atLeast("calls", "/s", median(all["gateway"]), control, "Traefik", 1)
	fmt.Fprintln(out, f)
	return result{Value: f.Ours / control, Unit: "ratio", Control: &control, Goal: 1, Pass: f.holds(), Figures: []figure{f}}, nil
}
