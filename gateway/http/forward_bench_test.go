// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bufio"
	"bytes"
	"net"
	"testing"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// BenchmarkForward is one small request after another on a connection that is kept, over the loopback. Client and backend allocate nothing, so what is counted is the
// gateway's.
func BenchmarkForward(b *testing.B) {
	listen := func() net.Listener {
		socket, err := new(net.ListenConfig).Listen(b.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		return socket
	}
	backend := listen()
	defer backend.Close()
	answer := append([]byte("HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n"), make([]byte, 1024)...)
	go func() {
		conn, err := backend.Accept()
		if err != nil {
			b.Error(err)
			return
		}
		defer conn.Close()
		for in := bufio.NewReader(conn); skipHead(in) == nil; {
			if _, err := conn.Write(answer); err != nil {
				return
			}
		}
	}()
	s := &scene{live: directory.NewLive()}
	s.endpoint("a", mesh.AppUnknown, backend.Addr().(*net.TCPAddr).AddrPort())
	server := NewServer(Options{
		Log: logr.Discard(), Access: logr.Discard(), Directory: s.live, Network: func() string { return "east" }, Metrics: prometheus.NewRegistry(),
		Limits: Limits{LeaveTime: 1},
	})
	defer server.Close()
	rule := rule("x", prefix("/"))
	rule.Backends = []mesh.HTTPBackend{to("a")}
	port := server.NewPort([]mesh.Listener{listener("web", "", route("r", nil, rule))})
	socket := listen()
	go port.Serve(socket)
	defer port.Drain(b.Context())
	defer socket.Close()
	client, err := new(net.Dialer).DialContext(b.Context(), "tcp", socket.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	in := bufio.NewReader(client)
	request := []byte("GET /cart HTTP/1.1\r\nHost: x\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client.Write(request); err != nil {
			b.Fatal(err)
		}
		if err := skipHead(in); err != nil {
			b.Fatal(err)
		}
		if _, err := in.Discard(1024); err != nil {
			b.Fatal(err)
		}
	}
}

// skipHead reads a head to its end.
func skipHead(in *bufio.Reader) error {
	for {
		line, err := in.ReadSlice('\n')
		switch {
		case err != nil:
			return err
		case bytes.Equal(line, []byte("\r\n")):
			return nil
		}
	}
}
