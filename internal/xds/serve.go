// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

const (
	// keepaliveTime and keepaliveTimeout find dead peers (the figures of ztunnel, discovery.md part 1).
	keepaliveTime    = 30 * time.Second
	keepaliveTimeout = 10 * time.Second
	// connectionAge is when a connection is asked to begin anew, so that streams spread over the replicas again after
	// one was away, and credentials are looked at again. gRPC adds up to 10 % of jitter.
	connectionAge = 30 * time.Minute
	// connectionGrace is how long calls may go on on a connection that was asked to.
	connectionGrace = 10 * time.Second
	// maxRequestBytes is the largest request read: a reconnecting subscriber names all it holds with versions,
	// about 120 bytes each, so this is half a million resources. Only authenticated streams are read at all.
	maxRequestBytes = 64 << 20
	// maxConcurrentCalls bounds what one connection may have under way: one stream and some certificates (ztunnel asks
	// for 8 at a time).
	maxConcurrentCalls = 64
	// streamWindow is how many bytes of a call are buffered before somebody reads it, which is before its caller is known.
	// A message that is being read gets a larger window of its own.
	streamWindow = 64 << 10
	// connectionWindow lets one large request come at full speed.
	connectionWindow = 1 << 20
	// maxHeaderBytes bounds the headers of a call; a bound token has about 1200 bytes.
	maxHeaderBytes = 32 << 10
	// connectionIdle is when a connection without calls is closed.
	connectionIdle = 10 * time.Minute
	// shutdownGrace is how long Serve waits for calls under way when it is to end.
	shutdownGrace = 5 * time.Second
)

// Service is something that Serve offers.
type Service interface {
	Register(grpc.ServiceRegistrar)
}

// Serve offers services over TLS on l, which it closes, until ctx ends. Services that have a method Close are closed
// before the server stops. It returns nil when ctx ended and nothing runs any more.
func Serve(ctx context.Context, l net.Listener, config *tls.Config, services ...Service) error {
	server := grpc.NewServer(
		grpc.Creds(counting{credentials.NewTLS(config)}),
		grpc.ForceServerCodecV2(newCodec()),
		grpc.MaxRecvMsgSize(maxRequestBytes),
		grpc.MaxConcurrentStreams(maxConcurrentCalls),
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connectionWindow),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: keepaliveTime, Timeout: keepaliveTimeout,
			MaxConnectionIdle: connectionIdle, MaxConnectionAge: connectionAge, MaxConnectionAgeGrace: connectionGrace,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveTime / 3, PermitWithoutStream: true}),
		grpc.ConnectionTimeout(10*time.Second), // TLS and HTTP/2 handshakes of an unknown peer
	)
	for _, s := range services {
		s.Register(server)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve discovery on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	for _, s := range services {
		if c, ok := s.(interface{ Close() }); ok {
			go c.Close() // waits for streams, which end because of it; Stop below waits for the same
		}
	}
	force := time.AfterFunc(shutdownGrace, server.Stop)
	defer force.Stop()
	server.GracefulStop()
	if err := <-served; err != nil {
		return fmt.Errorf("serve discovery on %s: %w", l.Addr(), err)
	}
	for _, s := range services {
		if c, ok := s.(interface{ Close() }); ok {
			c.Close()
		}
	}
	return nil
}

// ErrNoCredentials means that a call carries no bearer token, or several.
var ErrNoCredentials = errors.New("call carries no bearer token")

// Credentials reads the bearer token of an incoming call, and the id of the cluster that is said to have issued it
// (empty if the caller does not say).
func Credentials(ctx context.Context) (token, cluster string, err error) {
	md, _ := metadata.FromIncomingContext(ctx)
	values := md.Get("authorization")
	if len(values) != 1 {
		return "", "", ErrNoCredentials
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	if !ok || !strings.EqualFold(scheme, "bearer") || token == "" {
		return "", "", ErrNoCredentials
	}
	if clusters := md.Get("clusterid"); len(clusters) > 0 {
		cluster = clusters[0]
	}
	return token, cluster, nil
}

// CallerAddress is the address that a call comes from; the zero value if that is none.
func CallerAddress(ctx context.Context) netip.Addr {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return netip.Addr{}
	}
	from, _ := netip.ParseAddrPort(p.Addr.String()) // zero if it has another form
	return from.Addr().Unmap()
}

// peerAddress is where a call comes from, for the log.
func peerAddress(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok {
		return p.Addr.String()
	}
	return "-"
}
