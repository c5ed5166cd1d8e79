// SPDX-License-Identifier: Apache-2.0

package zds

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// agentPeer accepts one connection of a client under test and reads its hello.
func agentPeer(t *testing.T, l *net.UnixListener) *peer {
	t.Helper()
	if err := l.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	conn, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	p := &peer{t, conn}
	packet, _ := p.read()
	if v, err := decodeHello(packet); err != nil || v.version != versionV1 {
		t.Fatalf("hello %x: version %d, %v", packet, v.version, err)
	}
	return p
}

func (p *peer) readAck(want string) {
	p.t.Helper()
	packet, files := p.read()
	a, err := decodeAck(packet)
	if err != nil || len(files) != 0 || a.err != want {
		p.t.Fatalf("acknowledgement %q with %d descriptors, %v; want %q", a.err, len(files), err, want)
	}
}

func startClient(t *testing.T, path string, h Handler) <-chan error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		ended <- Run(ctx, path, Proxy{}, h, testLogger(t))
	}()
	t.Cleanup(func() { cancel(); <-done })
	return ended
}

func listen(t *testing.T, path string) *net.UnixListener {
	t.Helper()
	l, err := net.ListenUnix(network, &net.UnixAddr{Name: path, Net: network})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestClientServesAndReconnects(t *testing.T) {
	path := socket(t)
	l := listen(t, path)
	h := &recorder{fail: map[string]error{"bad": errBroken}}
	startClient(t, path, h)

	p := agentPeer(t, l)
	p.write(encodeRequest(request{kindAdd, pod("a")}), aFile(t))
	p.readAck("")
	p.write(encodeRequest(request{kindAdd, pod("bad")}), aFile(t))
	p.readAck("broken")
	p.write(encodeRequest(request{kindKeep, Workload{UID: "k"}}))
	p.readAck("")
	p.write(encodeRequest(request{kind: kindSnapshot}))
	p.readAck("")
	p.write(encodeRequest(request{kindDel, Workload{UID: "a"}}))
	p.readAck("")
	p.conn.Close()

	p = agentPeer(t, l)
	p.write(encodeRequest(request{kind: kindSnapshot})) // once per connection, so it is legal again
	p.readAck("")
	want := []string{"connected true", "add a shop/pod-a/cart", "add bad shop/pod-bad/cart", "keep k", "snapshot", "del a",
		"connected false", "connected true", "snapshot"}
	if got := h.seen(); !slices.Equal(got, want) {
		t.Errorf("handler saw\n%q, want\n%q", got, want)
	}
}

func TestClientWaitsForTheSocket(t *testing.T) {
	path := socket(t)
	h := &recorder{}
	startClient(t, path, h)
	p := agentPeer(t, listen(t, path))
	p.write(encodeRequest(request{kind: kindSnapshot}))
	p.readAck("")
}

func TestClientStopsOnProtocolErrors(t *testing.T) {
	before := descriptors(t)
	for _, tt := range []struct {
		name   string
		script func(*peer)
	}{
		{"add without a descriptor", func(p *peer) { p.write(encodeRequest(request{kindAdd, pod("a")})) }},
		{"keep with a descriptor", func(p *peer) { p.write(encodeRequest(request{kindKeep, pod("a")}), aFile(p.t)) }},
		{"two descriptors", func(p *peer) {
			fd := int(aFile(p.t).Fd())
			_, _, err := p.conn.WriteMsgUnix(encodeRequest(request{kindAdd, pod("a")}), unix.UnixRights(fd, fd), nil)
			if err != nil {
				p.t.Fatal(err)
			}
		}},
		{"more descriptors than fit", func(p *peer) {
			fd := int(aFile(p.t).Fd())
			fds := slices.Repeat([]int{fd}, 3*maxDescriptors)
			_, _, err := p.conn.WriteMsgUnix(encodeRequest(request{kindAdd, pod("a")}), unix.UnixRights(fds...), nil)
			if err != nil {
				p.t.Fatal(err)
			}
		}},
		{"keep after the snapshot", func(p *peer) {
			p.write(encodeRequest(request{kind: kindSnapshot}))
			p.readAck("")
			p.write(encodeRequest(request{kindKeep, pod("a")}))
		}},
		{"second snapshot", func(p *peer) {
			p.write(encodeRequest(request{kind: kindSnapshot}))
			p.readAck("")
			p.write(encodeRequest(request{kind: kindSnapshot}))
		}},
		{"noise", func(p *peer) { p.write([]byte{0xff, 0xff}) }},
		{"packet too long", func(p *peer) {
			if _, err := p.conn.Write(make([]byte, MaxPacket+1)); err != nil {
				p.t.Fatal(err)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := socket(t)
			l := listen(t, path)
			h := &recorder{}
			ended := startClient(t, path, h)
			tt.script(agentPeer(t, l))
			var broken *ProtocolError
			select {
			case err := <-ended:
				if !errors.As(err, &broken) {
					t.Fatalf("ended with %v, want a protocol error", err)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("goes on after a protocol error")
			}
		})
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d namespace descriptors open, %d before", after, before)
	}
}

// Both halves together: what arrives is the very namespace that was sent.
func TestBothHalvesPassTheNamespace(t *testing.T) {
	path := socket(t)
	s := startServer(t, path)
	h := &identityHandler{got: make(chan uint64, 1)}
	startClient(t, path, h)
	until(t, "the proxy", func() bool { return s.Connected() == 1 })
	f := aFile(t)
	if err := s.Add(t.Context(), pod("a"), f); err != nil {
		t.Fatal(err)
	}
	if got, want := <-h.got, inode(t, f); got != want {
		t.Errorf("namespace %d arrived, %d was sent", got, want)
	}
}

// The agent adds a pod again when it terminates: proxies that are there hear of it then, and later ones with the snapshot.
func TestBothHalvesTellThatAPodTerminates(t *testing.T) {
	path := socket(t)
	s := startServer(t, path)
	h := &recorder{}
	startClient(t, path, h)
	until(t, "the snapshot", func() bool { return slices.Contains(h.seen(), "snapshot") })
	ending := pod("a")
	ending.Terminating = true
	for _, w := range []Workload{pod("a"), ending} {
		if err := s.Add(t.Context(), w, aFile(t)); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := h.seen(), []string{"connected true", "snapshot", "add a shop/pod-a/cart", "add terminating a shop/pod-a/cart"}; !slices.Equal(got, want) {
		t.Errorf("the first proxy saw\n%q, want\n%q", got, want)
	}
	next := &recorder{}
	startClient(t, path, next)
	until(t, "the next snapshot", func() bool { return slices.Contains(next.seen(), "snapshot") })
	if got, want := next.seen(), []string{"connected true", "add terminating a shop/pod-a/cart", "snapshot"}; !slices.Equal(got, want) {
		t.Errorf("the next proxy saw\n%q, want\n%q", got, want)
	}
}

type identityHandler struct {
	recorder
	got chan uint64
}

func (h *identityHandler) Add(_ context.Context, _ Workload, netns *os.File) error {
	defer netns.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(netns.Fd()), &st); err != nil {
		return err
	}
	h.got <- st.Ino
	return nil
}

func inode(t *testing.T, f *os.File) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}
