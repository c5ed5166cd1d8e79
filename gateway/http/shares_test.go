// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// However many namespaces take what they can, there is something for the next one, and all of it is there again in the end.
func TestPool(t *testing.T) {
	p := newPool[string](1000)
	taken := map[string]int64{}
	for i, want := range []int64{500, 250, 125, 62} {
		ns := fmt.Sprint(i)
		for p.take(ns, 1) {
			taken[ns]++
		}
		if taken[ns] != want {
			t.Errorf("namespace %s has %d, want %d", ns, taken[ns], want)
		}
	}
	if p.take("0", 1) {
		t.Error("who has more than is left gets more")
	}
	late := &portion{pool: p, namespace: "late"}
	if !late.grow(20) || late.grow(40) || !late.grow(10) {
		t.Errorf("a portion has %d of %d that are left", late.size, p.most-p.taken)
	}
	late.giveBack()
	late.giveBack()
	if late.grow(1) {
		t.Error("a portion grows that was given back")
	}
	for ns, n := range taken {
		p.give(ns, n)
	}
	if p.inUse() != 0 || len(p.of) != 0 {
		t.Errorf("%d are not given back, %v", p.inUse(), p.of)
	}
}

// A thousand networks with as many requests as each gets, up to sixteen, leave some to the next client; and a few that take all they can, too.
func TestManyClientsLeaveHeaderMemory(t *testing.T) {
	const size, most = streamCost + 10*(fieldCost+40), 512 << 20
	for name, tc := range map[string]struct{ networks, each int }{"many with a few": {1000, 16}, "some with many": {400, 1 << 30}} {
		t.Run(name, func(t *testing.T) {
			p := newHeads(most)
			took := map[asker]int64{}
			take := func(who netip.Prefix, times int) (n int) {
				for n < times && p.take(asker{network: who}, size) {
					n++
				}
				took[asker{network: who}] += int64(n)
				return n
			}
			for i := range tc.networks {
				take(netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 4: byte(i >> 8), 5: byte(i)}), 64), tc.each)
			}
			late := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, 1}), 32)
			if n := take(late, 1<<30); n != fewHeads/size {
				t.Errorf("the next client has %d requests, with %d bytes in use; want %d", n, p.inUse(), fewHeads/size)
			}
			for who, n := range took {
				for range n {
					p.give(who, size)
				}
			}
			if n := take(late, 1<<30); p.inUse() > most/2 || n < most/2/size {
				t.Errorf("who is the only one has %d requests, %d bytes", n, p.inUse())
			}
		})
	}
}

// What headers may hold follows what the process may have.
func TestHeaderMemoryOfASmallProcess(t *testing.T) {
	was := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(was) })
	for limit, want := range map[int64]int64{math.MaxInt64: 512 << 20, 2 << 30: 512 << 20, 300 << 20: 150 << 20} {
		debug.SetMemoryLimit(limit)
		if got := (Limits{}).withDefaults().HeaderMemory; got != want {
			t.Errorf("with a limit of %d bytes: %d, want %d", limit, got, want)
		}
	}

	// A limit that changes later counts then, unless we were told.
	debug.SetMemoryLimit(300 << 20)
	newServer := func(l Limits) *Server {
		return NewServer(Options{Limits: l, Metrics: prometheus.NewRegistry(), Log: logr.Discard()})
	}
	follows, told := newServer(Limits{}), newServer(Limits{HeaderMemory: 100 << 20})
	who := asker{network: netip.MustParsePrefix("192.0.2.1/32")}
	if !follows.heads.take(who, 60<<20) { // of 150 MiB
		t.Error("60 MiB are too much at first")
	}
	follows.heads.give(who, 60<<20)
	debug.SetMemoryLimit(200 << 20)
	follows.MemoryChanged()
	told.MemoryChanged()
	if follows.heads.take(who, 60<<20) { // of 100 MiB, of which half is left to others
		t.Error("60 MiB are not too much when half of 200 MiB may be had")
	}
	if !follows.heads.take(who, 40<<20) || !told.heads.take(who, 40<<20) {
		t.Error("40 MiB are too much")
	}
}

// owned is a route of a namespace for a host that is called as that is.
func owned(namespace string, change func(*mesh.HTTPRule)) *mesh.HTTPRoute {
	out := route("r", []string{namespace + ".example.com"}, with(rule("x", prefix("/")), func(r *mesh.HTTPRule) {
		r.Backends = []mesh.HTTPBackend{to("a")}
		change(r)
	}))
	out.Namespace = namespace
	return out
}

func mirrored(times int, name string) func(*mesh.HTTPRule) {
	return func(r *mesh.HTTPRule) {
		for range times {
			r.Filters.Mirrors = append(r.Filters.Mirrors, mesh.HTTPMirror{Backend: to(name), Numerator: 1, Denominator: 1})
		}
	}
}

// Copies of one namespace's requests, to a backend that never answers, leave places to those of another one.
func TestCopiesOfTwoNamespaces(t *testing.T) {
	s := newScene(t, Limits{Mirrors: 16}, listener("web", "", owned("greedy", mirrored(16, "hole")), owned("modest", mirrored(1, "b"))))
	s.backend("a", mesh.AppUnknown, says("a"))
	s.backend("b", mesh.AppUnknown, says("b"))
	release := make(chan struct{})
	s.backend("hole", mesh.AppUnknown, func(http.ResponseWriter, *http.Request) { <-release })
	t.Cleanup(func() { close(release) })
	client := s.client()
	for range 4 {
		s.ask(client, "GET", "http://greedy.example.com/", "")
	}
	if n := s.counted("isthmus_gateway_http_mirrored_total", "skipped"); n != 4*16-8 {
		t.Errorf("%v copies of the first were not made, want all but 8", n)
	}
	for i := range 8 {
		s.ask(client, "GET", "http://modest.example.com/", "")
		s.until("the other's copy is sent", func() bool { return s.counted("isthmus_gateway_http_mirrored_total", "sent") == float64(i+1) })
	}
}

// What clients only say that they will send takes no memory from others, and what those of one namespace's routes do send does not take all of it.
func TestPromisedBodies(t *testing.T) {
	retried := func(r *mesh.HTTPRule) { r.Retry = &mesh.HTTPRetry{Attempts: 3, Codes: []uint16{503}} }
	const whole, clients = 500, 8
	for name, tc := range map[string]struct {
		greedy, modest func(*mesh.HTTPRule)
		sent           int // by each of the greedy ones
		kept           int64
		metric         string // counts what the modest one wants
	}{
		"copies, of which nothing comes, and a retry": {mirrored(1, "b"), retried, 0, 0, "retries_total"},
		"copies, of which nothing comes, and a copy":  {mirrored(1, "b"), mirrored(1, "b"), 0, 0, "mirrored_total"},
		"retries, of which nothing comes":             {retried, retried, 0, 0, "retries_total"},
		"copies, most of which comes":                 {mirrored(1, "b"), mirrored(1, "b"), 499, 998, "mirrored_total"},
		"retries, most of which comes":                {retried, retried, 499, 998, "retries_total"},
		"copies, most of which comes, and a retry":    {mirrored(1, "b"), retried, 499, 998, "retries_total"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, Limits{BodyMemory: 2000}, listener("web", "", owned("greedy", tc.greedy), owned("modest", tc.modest)))
			ok := says("ok")
			var failed atomic.Bool
			s.backend("a", mesh.AppUnknown, func(w http.ResponseWriter, r *http.Request) {
				if r.Host == "modest.example.com" && tc.metric == "retries_total" && !failed.Swap(true) {
					w.WriteHeader(http.StatusServiceUnavailable)
					return
				}
				ok(w, r)
			})
			s.backend("b", mesh.AppUnknown, says("b"))
			conns := make([]net.Conn, clients)
			for i := range conns {
				conn, err := net.Dial("tcp", s.address)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(patience))
				conns[i] = conn
				fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: greedy.example.com\r\nContent-Length: %d\r\n\r\n%s", whole, strings.Repeat("x", tc.sent))
			}
			s.until("they wait", func() bool { return len(s.server.standing.all()) == clients })
			s.until("as much is kept as they may have", func() bool { return s.server.copied.inUse()+s.server.replayed.inUse() == tc.kept })
			response, text := s.ask(s.client(), "POST", "http://modest.example.com/", "a small body")
			if response.StatusCode != http.StatusOK || text != "oka small body" {
				t.Errorf("the other namespace's request: %d %q", response.StatusCode, text)
			}
			s.until("what it wants is done", func() bool { return s.counted("isthmus_gateway_http_"+tc.metric, "sent") > 0 })
			for _, conn := range conns {
				_, _ = io.WriteString(conn, strings.Repeat("x", whole-tc.sent))
				response, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Fatal(err)
				}
				if text, err := io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusOK || string(text) != "ok"+strings.Repeat("x", whole) {
					t.Errorf("a slow client's answer: %d %q, %v", response.StatusCode, text, err)
				}
				response.Body.Close()
			}
			s.until("all is given back", func() bool { return s.server.copied.inUse()+s.server.replayed.inUse() == 0 })
		})
	}
}
