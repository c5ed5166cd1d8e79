// SPDX-License-Identifier: Apache-2.0

package http

import (
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// A connection to an endpoint whose machine is gone is given up, and the endpoint is left out: requests in HTTP/2 do not go on to it for as long as the system hopes.
func TestEndpointThatVanishes(t *testing.T) {
	s := newScene(t, Limits{AckTime: 300 * time.Millisecond}, toA())
	began := time.Now()
	s.server.outliers.now = func() time.Time { return began } // who is left out stays so, however long the requests take
	var config net.ListenConfig
	config.SetMultipathTCP(false) // whose sockets have no filters
	socket, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	there := &mortal{Listener: socket}
	protocols := &http.Protocols{}
	protocols.SetUnencryptedHTTP2(true)
	first := &http.Server{Handler: says("first"), Protocols: protocols}
	go first.Serve(there)
	t.Cleanup(func() { first.Close() })
	s.endpoint("a", mesh.AppHTTP2, socket.Addr().(*net.TCPAddr).AddrPort())
	client := s.client()
	if _, text := s.ask(client, "GET", "http://x/", ""); text != "first" {
		t.Fatalf("answered %q", text)
	}
	there.vanish(t)
	s.backend("a", mesh.AppHTTP2, says("second"))
	failed := 0
	for range 64 { // one in two goes to the one that is gone, as far as it is known to be well
		response, text := s.ask(client, "GET", "http://x/", "")
		if text == "second" {
			continue
		}
		if failed++; response.StatusCode != http.StatusGatewayTimeout {
			t.Errorf("answered %d %q\n%s", response.StatusCode, text, s.logs)
		}
		if s.server.outliers.out(portOf{service: key("a"), port: 80}) == nil {
			t.Error("the endpoint is not left out")
		}
	}
	if failed != 1 {
		t.Errorf("%d requests were lost\n%s", failed, s.logs)
	}
}

// mortal is a socket whose machine may vanish.
type mortal struct {
	net.Listener
	mu    sync.Mutex
	conns []syscall.Conn
}

func (m *mortal) Accept() (net.Conn, error) {
	c, err := m.Listener.Accept()
	if err == nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.conns = append(m.conns, c.(syscall.Conn))
	}
	return c, err
}

// vanish has the system hear nothing any more of what comes for the socket and for its connections, and so say nothing to it.
func (m *mortal) vanish(t *testing.T) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	nothing := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
	for _, c := range append(m.conns, m.Listener.(syscall.Conn)) {
		raw, err := c.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var failed error
		err = raw.Control(func(fd uintptr) {
			failed = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &nothing[0]})
		})
		if err != nil || failed != nil {
			t.Fatal(err, failed)
		}
	}
}

// Calls may be silent for any time: a server of gRPC would end the connection, with all its calls, for being asked by PING whether it is there.
func TestSilentCalls(t *testing.T) {
	inMemory(t, func(t *testing.T, in network) {
		s := newSceneIn(t, in, Limits{}, listener("l", "", grpcRoute(over("echo", mesh.HTTPFilters{}, exact("/shop.Cart/Watch")))))
		s.grpcBackend("echo")
		conn := s.grpcClient()
		stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/shop.Cart/Watch")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Header(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(4 * time.Minute)
		if err := stream.SendMsg(wrapperspb.String("still there")); err != nil {
			t.Fatal(err)
		}
		if err := stream.RecvMsg(new(wrapperspb.StringValue)); err != nil {
			t.Errorf("after a silence: %v\n%s", err, s.logs)
		}
		_ = stream.CloseSend()
		if err := stream.RecvMsg(new(wrapperspb.StringValue)); errors.Is(err, io.EOF) {
			t.Error("the call ended without its status")
		}
	})
}
