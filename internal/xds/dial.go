// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
)

const (
	// connectTimeout bounds TCP and TLS to a control plane (discovery.md part 1).
	connectTimeout = 5 * time.Second
	// maxResponseMessage is the largest response read, the bound that ztunnel has.
	maxResponseMessage = 200 << 20
	// responseWindow is how many bytes the server may send ahead of our reading: 1 MiB keeps 10 Gbit/s full over the 0.8 ms of a large cluster
	// (10e9/8 * 0.0008 = 1e6). A message that is being read gets a larger window of its own.
	responseWindow = 1 << 20
	// firstBackoff and lastBackoff bound the pause between attempts, which doubles from the one to the other.
	firstBackoff = 10 * time.Millisecond
	lastBackoff  = 15 * time.Second
)

// errNoRoots means that RootCAs gave nothing: no control plane can prove itself, so none is dialled.
var errNoRoots = errors.New("no root certificates to verify the control plane with")

// dial makes a connection to the control plane of the options. It is lazy: the first call connects.
func dial(o ClientOptions) (*grpc.ClientConn, error) {
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(&freshRoots{roots: o.RootCAs}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxResponseMessage)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: connectBackoff, MinConnectTimeout: connectTimeout}),
		// Fixed windows: gRPC would otherwise probe the path with a PING for each message that comes, and the server answer it.
		grpc.WithStaticStreamWindowSize(responseWindow),
		grpc.WithStaticConnWindowSize(responseWindow),
		grpc.WithDisableRetry(),         // of single calls, which would keep a copy of what was sent; we begin streams anew
		grpc.WithDisableServiceConfig(), // DNS TXT records have no say in how we connect
		grpc.WithNoProxy(),              // nor has an HTTPS_PROXY that was meant for an app
	}
	if o.ServerName != "" {
		options = append(options, grpc.WithAuthority(o.ServerName))
	}
	conn, err := grpc.NewClient(o.Target, options...)
	if err != nil {
		return nil, fmt.Errorf("dial control plane %s: %w", o.Target, err)
	}
	return conn, nil
}

// authorize adds the credentials of the options to an outgoing call. The token is read anew each time, as it rotates.
func authorize(ctx context.Context, o ClientOptions) (context.Context, error) {
	token, err := o.Token()
	if err != nil {
		return nil, fmt.Errorf("read token for control plane %s: %w", o.Target, err)
	}
	pairs := []string{"authorization", "Bearer " + token}
	if o.Cluster != "" {
		pairs = append(pairs, "clusterid", o.Cluster)
	}
	return metadata.AppendToOutgoingContext(ctx, pairs...), nil
}

// freshRoots are TLS credentials whose roots are read for each handshake, so that a rotated root needs no restart. The
// name that the server must prove is the call's authority.
type freshRoots struct {
	roots func() *x509.CertPool
}

// ClientHandshake implements credentials.TransportCredentials.
func (f *freshRoots) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	roots := f.roots()
	if roots == nil {
		return nil, nil, errNoRoots
	}
	return credentials.NewTLS(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}).ClientHandshake(ctx, authority, raw)
}

// ServerHandshake implements credentials.TransportCredentials; these credentials are for clients only.
func (f *freshRoots) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("credentials of a client cannot serve")
}

// Info implements credentials.TransportCredentials.
func (f *freshRoots) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements credentials.TransportCredentials.
func (f *freshRoots) Clone() credentials.TransportCredentials { return f }

// OverrideServerName implements credentials.TransportCredentials. The name is the authority's affair.
func (f *freshRoots) OverrideServerName(string) error { return nil }
