// SPDX-License-Identifier: Apache-2.0

package zds

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"
)

func pod(uid string) Workload {
	return Workload{UID: uid, Name: "pod-" + uid, Namespace: "shop", ServiceAccount: "cart"}
}

func TestServerSendsSnapshotThenIncrements(t *testing.T) {
	path := socket(t)
	s := startServer(t, path)
	if err := s.Add(t.Context(), pod("a"), aFile(t)); !errors.Is(err, ErrNoProxy) {
		t.Fatalf("add without a proxy: %v, want ErrNoProxy", err)
	}
	if err := s.Keep("b"); err != nil {
		t.Fatal(err)
	}

	p := dialPeer(t, path)
	p.write(encodeHello(hello{version: versionV1}))
	p.readRequest(kindAdd, "a", &ack{})
	p.readRequest(kindKeep, "b", &ack{})
	p.readRequest(kindSnapshot, "", &ack{})

	added := make(chan error, 1)
	go func() { added <- s.Add(context.Background(), pod("c"), aFile(t)) }()
	p.readRequest(kindAdd, "c", nil)
	select {
	case err := <-added:
		t.Fatalf("add returned %v before its acknowledgement", err)
	default:
	}
	p.write(encodeAck(ack{}))
	if err := <-added; err != nil {
		t.Fatal(err)
	}

	go func() { added <- s.Add(context.Background(), pod("d"), aFile(t)) }()
	p.readRequest(kindAdd, "d", &ack{err: "port taken"})
	var refused *RefusedError
	if err := <-added; !errors.As(err, &refused) || refused.Reason != "port taken" {
		t.Fatalf("refused add gave %v", err)
	}

	go func() { added <- s.Del(context.Background(), "a") }()
	p.readRequest(kindDel, "a", &ack{})
	if err := <-added; err != nil {
		t.Fatal(err)
	}
	if err := s.Del(t.Context(), "a"); err != nil {
		t.Fatalf("second del: %v", err)
	}
	if n := s.Len(); n != 3 {
		t.Errorf("%d pods in the snapshot, want b, c and d", n)
	}
}

func TestServerRefusedPodDoesNotStopTheSnapshot(t *testing.T) {
	path := socket(t)
	s := startServer(t, path)
	for _, uid := range []string{"a", "b"} {
		if err := s.Stage(pod(uid), aFile(t)); err != nil {
			t.Fatal(err)
		}
	}
	p := dialPeer(t, path)
	p.write(encodeHello(hello{version: versionV1}))
	p.readRequest(kindAdd, "a", &ack{err: "not now"})
	p.readRequest(kindAdd, "b", &ack{})
	p.readRequest(kindSnapshot, "", &ack{})
}

// A pod that a proxy refuses in its snapshot, where nobody waits for the answer, is known to be served by nobody, until some proxy has it.
func TestServerKnowsWhatNobodyServes(t *testing.T) {
	path := socket(t)
	s := startServer(t, path)
	for _, uid := range []string{"a", "b"} {
		if err := s.Stage(pod(uid), aFile(t)); err != nil {
			t.Fatal(err)
		}
	}
	unserved := func(when string, want ...string) {
		t.Helper()
		until(t, fmt.Sprintf("%v to be unserved %s", want, when), func() bool { return slices.Equal(s.Unserved(), want) })
	}
	unserved("without a proxy")
	older := dialPeer(t, path)
	older.write(encodeHello(hello{version: versionV1}))
	older.readRequest(kindAdd, "a", nil)
	changed := s.Changed()
	older.write(encodeAck(ack{err: "port taken"}))
	<-changed
	older.readRequest(kindAdd, "b", &ack{})
	older.readRequest(kindSnapshot, "", &ack{})
	unserved("by one proxy", "a")

	newer := dialPeer(t, path)
	newer.write(encodeHello(hello{version: versionV1}))
	newer.readRequest(kindAdd, "a", &ack{})
	newer.readRequest(kindAdd, "b", &ack{err: "port taken"})
	newer.readRequest(kindSnapshot, "", &ack{})
	unserved("by two")
	older.conn.Close()
	unserved("by the second", "b")

	done := make(chan error, 1)
	go func() { done <- s.Add(context.Background(), pod("b"), aFile(t)) }()
	newer.readRequest(kindAdd, "b", &ack{})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	unserved("once it has it")
	newer.conn.Close()
	unserved("when it has gone")
}

func TestServerTellsEveryProxy(t *testing.T) {
	path := socket(t)
	s := startServer(t, path)
	older := dialPeer(t, path)
	older.write(encodeHello(hello{version: versionV1}))
	older.readRequest(kindSnapshot, "", &ack{})
	newer := dialPeer(t, path)
	newer.write(encodeHello(hello{version: versionV1}))
	newer.readRequest(kindSnapshot, "", &ack{})

	done := make(chan error, 1)
	go func() { done <- s.Add(context.Background(), pod("a"), aFile(t)) }()
	older.readRequest(kindAdd, "a", nil)
	newer.silent()
	older.write(encodeAck(ack{})) // the newer one hears of a pod that is served
	newer.readRequest(kindAdd, "a", &ack{})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	// One that has it is enough; the other one goes on by itself.
	for uid, refuses := range map[string]*peer{"b": older, "c": newer} {
		go func() { done <- s.Add(context.Background(), pod(uid), aFile(t)) }()
		for _, p := range []*peer{older, newer} {
			answer := ack{}
			if p == refuses {
				answer.err = "port taken"
			}
			p.readRequest(kindAdd, uid, &answer)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	go func() { done <- s.Add(context.Background(), pod("d"), aFile(t)) }()
	older.readRequest(kindAdd, "d", &ack{err: "port taken"})
	newer.readRequest(kindAdd, "d", &ack{err: "port taken, too"})
	var refused *RefusedError
	if err := <-done; !errors.As(err, &refused) {
		t.Fatalf("a pod that nobody has: %v", err)
	}
	go func() { done <- s.Del(context.Background(), "a") }()
	older.readRequest(kindDel, "a", &ack{})
	newer.readRequest(kindDel, "a", &ack{})
	if err := <-done; err != nil {
		t.Fatal(err)
	}

	// A proxy that goes while it is told has no say.
	go func() { done <- s.Add(context.Background(), pod("e"), aFile(t)) }()
	older.readRequest(kindAdd, "e", &ack{})
	newer.readRequest(kindAdd, "e", nil)
	newer.conn.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	until(t, "one proxy", func() bool { return s.Connected() == 1 })
	go func() { done <- s.Add(context.Background(), pod("f"), aFile(t)) }()
	older.readRequest(kindAdd, "f", &ack{})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// A proxy that is busy with its snapshot for longer than anybody waits is told afterwards what it was not told: it may be the only one soon.
func TestServerTellsABusyProxyLater(t *testing.T) {
	path := socket(t)
	s := startServer(t, path)
	for _, uid := range []string{"first", "second"} {
		if err := s.Stage(pod(uid), aFile(t)); err != nil {
			t.Fatal(err)
		}
	}
	older, newer := dialPeer(t, path), dialPeer(t, path)
	older.write(encodeHello(hello{version: versionV1}))
	older.readRequest(kindAdd, "first", &ack{})
	older.readRequest(kindAdd, "second", &ack{})
	older.readRequest(kindSnapshot, "", &ack{})
	newer.write(encodeHello(hello{version: versionV1}))
	newer.readRequest(kindAdd, "first", nil)

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Add(ctx, pod("late"), aFile(t)) }()
	older.readRequest(kindAdd, "late", &ack{})
	cancel()
	if err := <-done; err != nil {
		t.Fatalf("one proxy has it: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	go func() { done <- s.Del(ctx, "first") }()
	older.readRequest(kindDel, "first", &ack{})
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("del that one proxy was not told: %v", err)
	}

	newer.write(encodeAck(ack{}))
	newer.readRequest(kindAdd, "second", &ack{})
	newer.readRequest(kindSnapshot, "", &ack{})
	newer.readRequest(kindDel, "first", &ack{err: "not now"}) // which does not stop the others
	newer.readRequest(kindAdd, "late", &ack{})
	// What comes then comes once.
	go func() { done <- s.Add(context.Background(), pod("next"), aFile(t)) }()
	older.readRequest(kindAdd, "next", &ack{})
	newer.readRequest(kindAdd, "next", &ack{})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	newer.silent()
}

func TestServerKeepsSlowProxyAndSkipsItsLateAnswer(t *testing.T) {
	path := socket(t)
	s := NewServer(path, testLogger(t))
	s.patience = 2 * time.Second // in which the answers that are in time come, on a busy machine, too
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	defer func() { cancel(); <-ended }()

	p := dialPeer(t, path)
	p.write(encodeHello(hello{version: versionV1}))
	p.readRequest(kindSnapshot, "", &ack{})
	until(t, "the proxy", func() bool { return s.Connected() == 1 })

	done := make(chan error, 1)
	go func() { done <- s.Add(context.Background(), pod("a"), aFile(t)) }()
	p.readRequest(kindAdd, "a", nil)
	var slow *slowError
	if err := <-done; !errors.As(err, &slow) {
		t.Fatalf("add without an answer gave %v", err)
	}
	// The late answer is a refusal; it must not be taken for the answer to what follows.
	p.write(encodeAck(ack{err: "late"}))
	go func() { done <- s.Add(context.Background(), pod("b"), aFile(t)) }()
	p.readRequest(kindAdd, "b", &ack{})
	if err := <-done; err != nil {
		t.Fatalf("add after a late answer: %v", err)
	}
}

// A proxy that hangs while another one takes its place holds up no pod, and hears of all of them when it goes on.
func TestServerDoesNotWaitForAProxyThatHangs(t *testing.T) {
	for _, tt := range []struct {
		name                string
		patience, headStart time.Duration
	}{
		{"longer than its head start", time.Hour, 20 * time.Millisecond},
		{"longer than an answer may take", 2 * time.Second, time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := socket(t)
			s := NewServer(path, testLogger(t))
			s.patience, s.headStart = tt.patience, tt.headStart
			runServer(t, s)
			older, newer := dialPeer(t, path), dialPeer(t, path)
			older.write(encodeHello(hello{version: versionV1}))
			older.readRequest(kindSnapshot, "", &ack{})
			newer.write(encodeHello(hello{version: versionV1}))
			newer.readRequest(kindSnapshot, "", &ack{})
			until(t, "two proxies", func() bool { return s.Connected() == 2 })
			add := func(uid string) {
				t.Helper()
				done := make(chan error, 1)
				go func() { done <- s.Add(context.Background(), pod(uid), aFile(t)) }()
				newer.readRequest(kindAdd, uid, &ack{})
				select {
				case err := <-done:
					if err != nil {
						t.Fatal(err)
					}
				case <-time.After(10 * time.Second):
					t.Fatalf("%s waits, although one proxy has it", uid)
				}
			}
			add("a")
			if tt.headStart == time.Hour {
				s.patience = time.Hour // that it hangs is known: nobody waits another time
			}
			add("b")
			done := make(chan error, 1)
			go func() { done <- s.Del(t.Context(), "a") }()
			newer.readRequest(kindDel, "a", &ack{})

			older.readRequest(kindAdd, "a", &ack{})
			heard := map[string]kind{}
			for len(heard) < 2 { // b, and that a is no more, in whichever order
				packet, _ := older.read()
				r, err := decodeRequest(packet)
				if err != nil {
					t.Fatal(err)
				}
				heard[r.workload.UID] = r.kind
				older.write(encodeAck(ack{}))
			}
			if heard["a"] != kindDel || heard["b"] != kindAdd {
				t.Errorf("heard %v", heard)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
			older.silent()
		})
	}
}

// What is offered doesn't wait for a proxy that hangs, and every proxy has it in the end.
func TestServerOffersWithoutWaiting(t *testing.T) {
	path := socket(t)
	s := NewServer(path, testLogger(t))
	s.patience, s.headStart = time.Hour, 20*time.Millisecond
	runServer(t, s)
	if err := s.Offer(t.Context(), pod("nobody's"), aFile(t)); !errors.Is(err, ErrNoProxy) {
		t.Errorf("without a proxy: %v", err)
	}
	p := dialPeer(t, path)
	p.write(encodeHello(hello{version: versionV1}))
	p.readRequest(kindAdd, "nobody's", &ack{})
	p.readRequest(kindSnapshot, "", &ack{})
	until(t, "the proxy", func() bool { return s.Connected() == 1 })
	for _, uid := range []string{"a", "b"} {
		if err := s.Offer(t.Context(), pod(uid), aFile(t)); !errors.Is(err, errBusy) {
			t.Errorf("%s, to one that hangs: %v", uid, err)
		}
	}
	p.readRequest(kindAdd, "a", &ack{})
	p.readRequest(kindAdd, "b", &ack{})
	p.silent()
}

func TestServerDropsBadProxies(t *testing.T) {
	for _, tt := range []struct {
		name   string
		script func(*peer)
	}{
		{"wrong version", func(p *peer) { p.write(encodeHello(hello{version: 7})) }},
		{"noise for hello", func(p *peer) { p.write([]byte{0xff}) }},
		{"packet too long", func(p *peer) {
			if _, err := p.conn.Write(make([]byte, MaxPacket+1)); err != nil {
				p.t.Fatal(err)
			}
		}},
		{"unasked acknowledgement", func(p *peer) {
			p.write(encodeHello(hello{version: versionV1}))
			p.readRequest(kindSnapshot, "", &ack{})
			p.write(encodeAck(ack{}))
		}},
		{"noise for an acknowledgement", func(p *peer) {
			p.write(encodeHello(hello{version: versionV1}))
			p.readRequest(kindSnapshot, "", nil)
			p.write([]byte{0x08, 0x01})
		}},
		{"acknowledgement with a descriptor", func(p *peer) {
			p.write(encodeHello(hello{version: versionV1}))
			p.readRequest(kindSnapshot, "", nil)
			p.write(encodeAck(ack{}), aFile(p.t))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := socket(t)
			s := startServer(t, path)
			p := dialPeer(t, path)
			tt.script(p)
			p.readEOF()
			until(t, "no proxy", func() bool { return s.Connected() == 0 })
			if err := s.Add(t.Context(), pod("a"), aFile(t)); !errors.Is(err, ErrNoProxy) {
				t.Errorf("add gave %v, want ErrNoProxy", err)
			}
		})
	}
}

// A proxy that goes while it is being told of a pod is no proxy: the pod waits for the next one, and nobody hears of a broken pipe.
func TestServerProxyGoesMeanwhile(t *testing.T) {
	for _, proxies := range []int{1, 2} {
		t.Run(fmt.Sprint(proxies), func(t *testing.T) {
			path := socket(t)
			s := startServer(t, path)
			var peers []*peer
			for range proxies {
				p := dialPeer(t, path)
				p.write(encodeHello(hello{version: versionV1}))
				p.readRequest(kindSnapshot, "", &ack{})
				peers = append(peers, p)
			}
			until(t, "the proxies", func() bool { return s.Connected() == proxies })
			added := make(chan error, 1)
			go func() { added <- s.Add(t.Context(), pod("a"), aFile(t)) }()
			for i, p := range peers {
				if i > 0 {
					p.readRequest(kindAdd, "a", &ack{err: "no"})
					continue
				}
				p.readRequest(kindAdd, "a", nil)
				p.conn.Close()
			}
			err := <-added
			_, refused := errors.AsType[*RefusedError](err)
			if errors.Is(err, ErrNoProxy) != (proxies == 1) || refused != (proxies == 2) {
				t.Errorf("add gave %v", err)
			}
		})
	}
}

func TestServerTakesOverStaleSocket(t *testing.T) {
	path := socket(t)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	startServer(t, path)
	p := dialPeer(t, path)
	p.write(encodeHello(hello{version: versionV1}))
	p.readRequest(kindSnapshot, "", &ack{})
}

func TestServerLeaksNoDescriptors(t *testing.T) {
	path := socket(t)
	before := descriptors(t)
	s := NewServer(path, testLogger(t))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()

	netns := aFile(t)
	for i := range 20 {
		if err := s.Stage(pod(fmt.Sprint(i)), netns); err != nil {
			t.Fatal(err)
		}
		if err := s.Stage(pod(fmt.Sprint(i)), netns); err != nil { // again: replaces
			t.Fatal(err)
		}
	}
	h := &recorder{}
	clientCtx, stopClient := context.WithCancel(t.Context())
	clientEnded := make(chan error, 1)
	go func() { clientEnded <- Run(clientCtx, path, Proxy{}, h, testLogger(t)) }()
	until(t, "the snapshot", func() bool { return len(h.seen()) == 22 })
	for i := range 10 {
		if err := s.Del(t.Context(), fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	stopClient()
	if err := <-clientEnded; err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if after := descriptors(t) - 1; after != before { // netns itself is one
		t.Errorf("%d namespace descriptors open, %d before", after, before)
	}
}

// A proxy that takes no confinements is told of pods beside one that does only when nobody confines connections any more, and says of itself what it is.
func TestServerHoldsAPlainProxyBesideOneThatConfines(t *testing.T) {
	path := socket(t)
	s := NewServer(path, testLogger(t))
	s.holding = time.Hour
	runServer(t, s)
	confining := Proxy{"isthmus-system", "proxy-1", true}
	older := dialPeer(t, path)
	older.write(encodeHello(hello{versionV1, confining}))
	older.readRequest(kindSnapshot, "", &ack{})
	next := dialPeer(t, path)
	next.write(encodeHello(hello{versionV1, Proxy{"isthmus-system", "proxy-2", true}}))
	next.readRequest(kindSnapshot, "", &ack{})
	if got := s.Proxies(); len(got) != 2 || got[0] != confining || got[1].Name != "proxy-2" {
		t.Errorf("%+v are connected", got)
	}
	plain := dialPeer(t, path)
	plain.write(encodeHello(hello{version: versionV1}))
	plain.silent()
	older.conn.Close()
	plain.silent()
	next.conn.Close()
	plain.readRequest(kindSnapshot, "", &ack{})
	another := dialPeer(t, path)
	another.write(encodeHello(hello{version: versionV1}))
	another.readRequest(kindSnapshot, "", &ack{})
}

// What is waited for ends in time.
func TestServerHoldsNobodyForever(t *testing.T) {
	path := socket(t)
	s := NewServer(path, testLogger(t))
	s.holding = time.Millisecond
	runServer(t, s)
	older := dialPeer(t, path)
	older.write(encodeHello(hello{versionV1, Proxy{Confines: true}}))
	older.readRequest(kindSnapshot, "", &ack{})
	plain := dialPeer(t, path)
	plain.write(encodeHello(hello{version: versionV1}))
	plain.readRequest(kindSnapshot, "", &ack{})
}
