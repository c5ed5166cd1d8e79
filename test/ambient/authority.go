// SPDX-License-Identifier: Apache-2.0

package ambient

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Request is what an Authority is asked.
type Request struct {
	Authorization, ClusterID string // headers
	CSR                      string // PEM
	Seconds                  uint64 // of validity that are wished for
	// Metadata are the strings of the request's metadata.
	Metadata map[string]string
}

// Authority answers requests for certificates with the chain or the error that a function gives.
type Authority func(Request) ([]string, error)

// Serve answers on l, which it closes, until ctx ends.
func (a Authority) Serve(ctx context.Context, l net.Listener, config *tls.Config) error {
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(config)), grpc.ForceServerCodecV2(raw{}),
		grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error { return a.answer(stream) }))
	stop := context.AfterFunc(ctx, server.Stop)
	defer stop()
	return server.Serve(l)
}

func (a Authority) answer(stream grpc.ServerStream) error {
	if method, _ := grpc.MethodFromServerStream(stream); method != issueMethod {
		return status.Errorf(codes.Unimplemented, "method %s", method)
	}
	var body []byte
	if err := stream.RecvMsg(&body); err != nil {
		return err
	}
	r, err := readRequest(body)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	headers, _ := metadata.FromIncomingContext(stream.Context())
	for _, h := range []struct {
		name string
		to   *string
	}{{"authorization", &r.Authorization}, {"clusterid", &r.ClusterID}} {
		if v := headers.Get(h.name); len(v) == 1 {
			*h.to = v[0]
		}
	}
	chain, err := a(r)
	if err != nil {
		return err
	}
	var m message
	m.texts(1, chain)
	return stream.SendMsg(m)
}

// readRequest reads csr = 1, validity_duration = 3, metadata = 4.
func readRequest(body []byte) (Request, error) {
	f, err := parse(body)
	if err != nil {
		return Request{}, err
	}
	r := Request{CSR: f.text(1), Seconds: f.last(3).number, Metadata: map[string]string{}}
	for number := range f {
		if number != 1 && number != 3 && number != 4 {
			return r, fmt.Errorf("field %d is not one of a request", number)
		}
	}
	list, err := parse(f.last(4).bytes)
	if err != nil {
		return r, err
	}
	for _, e := range list[1] {
		entry, err := parse(e.bytes)
		if err != nil {
			return r, err
		}
		value, err := parse(entry.last(2).bytes)
		if err != nil {
			return r, err
		}
		r.Metadata[entry.text(1)] = value.text(3)
	}
	return r, nil
}
