// SPDX-License-Identifier: Apache-2.0

package http

import (
	"context"
	"math"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// echo answers every call: with each message that comes, as it comes, and metadata before and after.
func echo(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	asked, _ := metadata.FromIncomingContext(stream.Context())
	if len(asked.Get("x-late")) == 0 { // else headers come with the end
		if err := stream.SendHeader(metadata.Pairs("x-method", method)); err != nil {
			return err
		}
	}
	for _, text := range asked.Get("x-seen") {
		stream.SetTrailer(metadata.Pairs("x-seen", text))
	}
	if len(asked.Get("x-wait")) > 0 {
		<-stream.Context().Done()
		return stream.Context().Err()
	}
	for {
		m := new(wrapperspb.StringValue)
		if err := stream.RecvMsg(m); err != nil {
			return status.Error(codes.DataLoss, "the end")
		}
		if err := stream.SendMsg(m); err != nil {
			return err
		}
	}
}

// grpcBackend starts a server of gRPC that answers with echo, and makes it an endpoint of a service whose port says nothing of HTTP/2.
func (s *scene) grpcBackend(name string) {
	s.t.Helper()
	s.grpcBackendFor(name, mesh.AppUnknown)
}

// grpcBackendFor is grpcBackend, for a port that says something.
func (s *scene) grpcBackendFor(name string, app mesh.AppProtocol) {
	s.t.Helper()
	socket, err := s.network.listen(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	server := grpc.NewServer(grpc.UnknownServiceHandler(echo))
	go server.Serve(socket)
	s.t.Cleanup(server.Stop)
	s.endpoint(name, app, socket.Addr().(*net.TCPAddr).AddrPort())
}

func (s *scene) grpcClient() *grpc.ClientConn {
	s.t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+s.address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("shop.example.com"),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return s.network.dial(ctx, "tcp", address)
		}))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	return conn
}

// call opens a stream both ways, which ends with the test.
func (s *scene) call(conn *grpc.ClientConn, method string, headers ...string) grpc.ClientStream {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(context.Background(), headers...), patience)
	s.t.Cleanup(cancel)
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
	if err != nil {
		s.t.Fatal(err)
	}
	return stream
}

func grpcRoute(rules ...mesh.HTTPRule) *mesh.HTTPRoute {
	out := route("r", nil, rules...)
	out.GRPC = true
	return out
}

// over is a rule that sends to a service, asked in HTTP/2.
func over(service string, filters mesh.HTTPFilters, matches ...mesh.HTTPMatch) mesh.HTTPRule {
	b := to(service)
	b.HTTP2 = true
	return mesh.HTTPRule{Matches: matches, Filters: filters, Backends: []mesh.HTTPBackend{b}}
}

// A conversation passes both ways while it goes on, headers before it and trailers after it, and silence does not end it.
func TestGRPCConversation(t *testing.T) { inMemory(t, testGRPCConversation) }

func testGRPCConversation(t *testing.T, in network) {
	const stall = 200 * time.Millisecond
	s := newSceneIn(t, in, Limits{StallTime: stall}, listener("l", "", grpcRoute(over("echo",
		mesh.HTTPFilters{
			Request: mesh.HeaderChange{Set: []mesh.NameValue{{Name: "X-Seen", Value: "filter"}}}, Response: mesh.HeaderChange{Add: []mesh.NameValue{{Name: "X-More", Value: "1"}}},
		}, exact("/shop.Cart/Watch")))))
	s.grpcBackend("echo")
	stream := s.call(s.grpcClient(), "/shop.Cart/Watch", "x-seen", "client")
	header, err := stream.Header()
	if err != nil || !slices.Equal(header.Get("x-method"), []string{"/shop.Cart/Watch"}) || !slices.Equal(header.Get("x-more"), []string{"1"}) {
		t.Fatalf("headers before the first message: %v, %v\n%s", header, err, s.logs)
	}
	for _, text := range []string{"a", "b", "c"} {
		if err := stream.SendMsg(wrapperspb.String(text)); err != nil {
			t.Fatal(err)
		}
		got := new(wrapperspb.StringValue)
		if err := stream.RecvMsg(got); err != nil || got.Value != text {
			t.Fatalf("echo of %q: %q, %v", text, got.Value, err)
		}
		time.Sleep(3 * stall) // silence is what is tested: longer than a body may stall
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := stream.RecvMsg(new(wrapperspb.StringValue)); status.Code(err) != codes.DataLoss || status.Convert(err).Message() != "the end" {
		t.Errorf("the end: %v", err)
	}
	if got := stream.Trailer().Get("x-seen"); len(got) != 1 || got[0] != "filter" {
		t.Errorf("trailers: %v", stream.Trailer())
	}
}

// The media type of gRPC alone, which is a stranger's word, lets nobody be silent: the route has to be a GRPCRoute, or the backend has to say that it speaks gRPC.
func TestOnlyCallsMayBeSilent(t *testing.T) {
	const stall = 500 * time.Millisecond
	plain := route("r", nil, over("echo", mesh.HTTPFilters{}, prefix("/")))
	for name, tc := range map[string]struct {
		table *Table
		app   mesh.AppProtocol
		want  codes.Code
	}{
		"a GRPCRoute":                         {NewTable([]mesh.Listener{listener("l", "", grpcRoute(over("echo", mesh.HTTPFilters{}, prefix("/"))))}), mesh.AppUnknown, codes.DataLoss},
		"an HTTPRoute":                        {NewTable([]mesh.Listener{listener("l", "", plain)}), mesh.AppUnknown, codes.Canceled},
		"an HTTPRoute to a backend for HTTP2": {NewTable([]mesh.Listener{listener("l", "", plain)}), mesh.AppHTTP2, codes.Canceled},
		"an HTTPRoute to a backend for gRPC":  {NewTable([]mesh.Listener{listener("l", "", plain)}), mesh.AppGRPC, codes.DataLoss},
	} {
		t.Run(name, func(t *testing.T) {
			inMemory(t, func(t *testing.T, in network) {
				s := newSceneIn(t, in, Limits{StallTime: stall}, listener("l", ""))
				s.port.current.Store(&generation{table: tc.table})
				s.grpcBackendFor("echo", tc.app)
				conn := s.grpcClient()
				begun, late := s.call(conn, "/shop.Cart/Watch"), s.call(conn, "/shop.Cart/Watch", "x-late", "1")
				if _, err := begun.Header(); err != nil {
					t.Fatal(err)
				}
				time.Sleep(3 * stall) // silence is what is tested: longer than a body may stall
				for when, stream := range map[string]grpc.ClientStream{"has begun": begun, "has not begun": late} {
					if tc.want == codes.DataLoss {
						_ = stream.CloseSend() // fails if the stream is over, as its end tells
					}
					if err := stream.RecvMsg(new(wrapperspb.StringValue)); status.Code(err) != tc.want {
						t.Errorf("a silent stream whose answer %s ends with %v, want %s\n%s", when, err, tc.want, s.logs)
					}
				}
				if tc.want != codes.DataLoss {
					s.until("it is counted", func() bool { return s.counted("isthmus_gateway_http_requests_total", string(ReasonStalled)) == 2 })
				}
			})
		})
	}
}

// In the mesh, where who is silent has proved who it is, any call may be, and nothing else.
func TestCallsOfVisitorsMayBeSilent(t *testing.T) {
	s := newScene(t, Limits{}, listener("l", ""))
	at := found{target: &Target{Route: route("r", nil, over("echo", mesh.HTTPFilters{}, prefix("/")))}}
	for _, grpc := range []bool{true, false} {
		visitor := &trip{found: at, backend: &mesh.HTTPBackend{Service: key("echo"), Port: 80}, visit: &Visit{}, grpc: grpc}
		if got := s.server.converses(visitor); got != grpc {
			t.Errorf("grpc %v: may be silent: %v", grpc, got)
		}
	}
}

// What the gateway itself answers is a status of gRPC.
func TestGRPCRefusals(t *testing.T) {
	limited := over("echo", mesh.HTTPFilters{}, exact("/shop.Cart/Short"))
	limited.RequestTimeout = 20 * time.Millisecond
	nothing := mesh.HTTPRule{Matches: []mesh.HTTPMatch{exact("/shop.Cart/None")}}
	broken := mesh.HTTPRule{Matches: []mesh.HTTPMatch{exact("/shop.Cart/Broken")}, Problem: "odd"}
	s := newScene(t, Limits{}, listener("l", "", grpcRoute(
		limited, nothing, broken, over("nobody", mesh.HTTPFilters{}, exact("/shop.Cart/Nobody")), over("dead", mesh.HTTPFilters{}, exact("/shop.Cart/Dead")),
		over("echo", mesh.HTTPFilters{}, mesh.HTTPMatch{Path: "/", RPC: "Wait"}, prefix("/shop.All")),
	)))
	s.grpcBackend("echo")
	socket, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.endpoint("dead", mesh.AppUnknown, socket.Addr().(*net.TCPAddr).AddrPort())
	socket.Close()
	conn := s.grpcClient()
	for _, tc := range []struct {
		method string
		want   codes.Code
	}{
		{"/shop.Cart/Other", codes.Unimplemented},
		{"/shop.Allx/Get", codes.Unimplemented},
		{"/shop.Cart/Await", codes.Unimplemented},
		{"/shop.Cart/None", codes.Unavailable},
		{"/shop.Cart/Broken", codes.Unavailable},
		{"/shop.Cart/Nobody", codes.Unavailable},
		{"/shop.Cart/Dead", codes.Unavailable},
		{"/shop.Cart/Short", codes.DeadlineExceeded},
		{"/shop.Cart/Wait", codes.DataLoss},
		{"/shop.All/Get", codes.DataLoss},
	} {
		t.Run(tc.method, func(t *testing.T) {
			headers := []string{}
			if tc.want == codes.DeadlineExceeded {
				headers = []string{"x-wait", "1"}
			}
			stream := s.call(conn, tc.method, headers...)
			if tc.want != codes.DeadlineExceeded {
				_ = stream.CloseSend()
			}
			if err := stream.RecvMsg(new(wrapperspb.StringValue)); status.Code(err) != tc.want {
				t.Errorf("%v, want %v\n%s", err, tc.want, s.logs)
			}
		})
	}
}

// The gateway itself keeps the time that a client gives a call, also if the client does not.
func TestGRPCTimeout(t *testing.T) {
	s := newScene(t, Limits{}, listener("l", "", grpcRoute(over("silent", mesh.HTTPFilters{}, prefix("/")))))
	s.backend("silent", mesh.AppHTTP2, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	protocols := &http.Protocols{}
	protocols.SetUnencryptedHTTP2(true)
	transport := s.client().Transport.(*http.Transport)
	transport.Protocols = protocols
	response, _ := s.ask(&http.Client{Transport: transport}, "POST", "http://shop.example.com/shop.Cart/Get", "x", "Content-Type", "application/grpc+proto", "Grpc-Timeout", "20m")
	if got := response.Header.Get("Grpc-Status"); response.StatusCode != http.StatusOK || got != "4" || response.ContentLength > 0 {
		t.Errorf("%d, grpc-status %q, %v", response.StatusCode, got, response.Header)
	}
	for text, want := range map[string]time.Duration{"20m": 20 * time.Millisecond, "1H": time.Hour, "99999999H": math.MaxInt64, "5u": 5 * time.Microsecond, "7n": 7, "3M": 3 * time.Minute, "2S": 2 * time.Second} {
		if got, ok := grpcTimeout(text); !ok || got != want {
			t.Errorf("%s: %s, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "m", "20", "20x", "-1m", "123456789m", "1.5S"} {
		if got, ok := grpcTimeout(text); ok {
			t.Errorf("%q: %s", text, got)
		}
	}
}
