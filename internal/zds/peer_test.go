// SPDX-License-Identifier: Apache-2.0

package zds

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/testr"
)

// peer is a scripted other side: it writes and reads raw packets.
type peer struct {
	t    *testing.T
	conn *net.UnixConn
}

func (p *peer) write(packet []byte, files ...*os.File) {
	p.t.Helper()
	var file *os.File
	if len(files) == 1 {
		file = files[0]
	}
	if err := writePacket(p.conn, packet, file); err != nil {
		p.t.Fatalf("peer writes: %v", err)
	}
}

func (p *peer) read() ([]byte, []*os.File) {
	p.t.Helper()
	if err := p.conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		p.t.Fatal(err)
	}
	buf := make([]byte, MaxPacket)
	packet, files, err := readPacket(p.conn, buf)
	if err != nil {
		p.t.Fatalf("peer reads: %v", err)
	}
	p.t.Cleanup(func() { closeAll(files) })
	return packet, files
}

// readRequest reads a request, checks it, and acknowledges it unless answer is nil.
func (p *peer) readRequest(want kind, uid string, answer *ack) {
	p.t.Helper()
	packet, files := p.read()
	r, err := decodeRequest(packet)
	if err != nil {
		p.t.Fatal(err)
	}
	if r.kind != want || r.workload.UID != uid {
		p.t.Fatalf("got %s of %q, want %s of %q", r.kind, r.workload.UID, want, uid)
	}
	if (len(files) == 1) != (want == kindAdd) {
		p.t.Fatalf("%s came with %d descriptors", want, len(files))
	}
	if answer != nil {
		p.write(encodeAck(*answer))
	}
}

// silent fails the test if there is something to read soon.
func (p *peer) silent() {
	p.t.Helper()
	if err := p.conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		p.t.Fatal(err)
	}
	if _, _, err := readPacket(p.conn, make([]byte, MaxPacket)); !errors.Is(err, os.ErrDeadlineExceeded) {
		p.t.Fatalf("read gave %v, want silence", err)
	}
}

func (p *peer) readEOF() {
	p.t.Helper()
	if err := p.conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		p.t.Fatal(err)
	}
	_, _, err := readPacket(p.conn, make([]byte, MaxPacket))
	if !gone(err) {
		p.t.Fatalf("read gave %v, want the end", err)
	}
}

func dialPeer(t *testing.T, path string) *peer {
	t.Helper()
	var conn net.Conn
	until(t, "the socket", func() bool {
		var err error
		conn, err = net.Dial(network, path)
		return err == nil
	})
	t.Cleanup(func() { conn.Close() })
	return &peer{t, conn.(*net.UnixConn)}
}

// until polls a condition that another goroutine brings about.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func socket(t *testing.T) string { return filepath.Join(t.TempDir(), "zds.sock") }

// aFile stands for a network namespace: the protocol does not look into it.
func aFile(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Open("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// startServer runs a server and gives a function that ends it and checks that it left no descriptor behind.
func startServer(t *testing.T, path string) *Server {
	t.Helper()
	s := NewServer(path, testLogger(t))
	runServer(t, s)
	return s
}

func runServer(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("server: %v", err)
		}
		if n := s.Len(); n != 0 {
			t.Errorf("%d pods left after the end", n)
		}
	})
}

func testLogger(t *testing.T) logr.Logger { return testr.New(t) }

// descriptors counts this process's open network namespace descriptors.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(target, "net:") {
			n++
		}
	}
	return n
}

// recorder is a Handler that writes down what it is told.
type recorder struct {
	mu     sync.Mutex
	events []string
	fail   map[string]error // by uid
}

func (r *recorder) note(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, s)
}

func (r *recorder) seen() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

func (r *recorder) Add(_ context.Context, w Workload, netns *os.File) error {
	defer netns.Close()
	what := "add "
	if w.Terminating {
		what = "add terminating "
	}
	r.note(what + w.UID + " " + w.Namespace + "/" + w.Name + "/" + w.ServiceAccount)
	return r.fail[w.UID]
}
func (r *recorder) Keep(uid string) error { r.note("keep " + uid); return r.fail[uid] }
func (r *recorder) Del(uid string)        { r.note("del " + uid) }
func (r *recorder) SnapshotSent()         { r.note("snapshot") }
func (r *recorder) Connected(up bool)     { r.note("connected " + strconv.FormatBool(up)) }

var errBroken = errors.New("broken")
