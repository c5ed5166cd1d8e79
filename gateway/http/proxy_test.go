// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func with(r mesh.HTTPRule, change func(*mesh.HTTPRule)) mesh.HTTPRule {
	change(&r)
	return r
}

func TestRequests(t *testing.T) {
	pairs := func(p ...string) (out []mesh.NameValue) {
		for i := 0; i < len(p); i += 2 {
			out = append(out, mesh.NameValue{Name: p[i], Value: p[i+1]})
		}
		return out
	}
	rules := []mesh.HTTPRule{
		with(rule("a", prefix("/a")), func(r *mesh.HTTPRule) { r.Backends = []mesh.HTTPBackend{to("a")} }),
		with(rule("h2c", prefix("/h2c")), func(r *mesh.HTTPRule) { r.Backends = []mesh.HTTPBackend{to("b")} }),
		with(rule("nobody", prefix("/nobody")), func(r *mesh.HTTPRule) { r.Backends = []mesh.HTTPBackend{to("nobody")} }),
		with(rule("down", prefix("/down")), func(r *mesh.HTTPRule) { r.Backends = []mesh.HTTPBackend{to("down")} }),
		with(rule("gone", prefix("/gone")), func(r *mesh.HTTPRule) { r.Backends = []mesh.HTTPBackend{{Weight: 1, Problem: "there is none"}} }),
		rule("none", prefix("/none")),
		with(rule("weightless", prefix("/weightless")), func(r *mesh.HTTPRule) { r.Backends = []mesh.HTTPBackend{{Service: key("a"), Port: 80}} }),
		with(rule("odd", prefix("/odd")), func(r *mesh.HTTPRule) { r.Problem, r.Backends = "a filter", []mesh.HTTPBackend{to("a")} }),
		with(rule("filters", prefix("/filters")), func(r *mesh.HTTPRule) {
			r.Filters.Request = mesh.HeaderChange{Set: pairs("X-Seen", "rule"), Remove: []string{"X-Seen"}}
			r.Filters.Response = mesh.HeaderChange{Set: pairs("X-Set", "1"), Add: pairs("X-Path", "added"), Remove: []string{"X-Host"}}
			r.Filters.Rewrite = &mesh.HTTPRewrite{Hostname: "inside", Path: mesh.PathChange{Kind: mesh.PathPrefixReplaced, Value: "/new"}}
			b := to("a")
			b.Filters.Request.Add = pairs("X-Seen", "backend")
			r.Backends = []mesh.HTTPBackend{b}
		}),
		with(rule("moved", prefix("/moved")), func(r *mesh.HTTPRule) {
			r.Filters.Redirect = &mesh.HTTPRedirect{Hostname: "new.example.com", Status: 301}
		}),
		with(rule("slow", prefix("/slow")), func(r *mesh.HTTPRule) {
			r.RequestTimeout, r.Backends = 50*time.Millisecond, []mesh.HTTPBackend{to("slow")}
		}),
		with(rule("slow-backend", prefix("/slow-backend")), func(r *mesh.HTTPRule) {
			r.BackendTimeout, r.Backends = 50*time.Millisecond, []mesh.HTTPBackend{to("slow")}
		}),
		with(rule("rude", prefix("/rude")), func(r *mesh.HTTPRule) { r.Backends = []mesh.HTTPBackend{to("rude")} }),
	}
	s := newScene(t, Limits{BodyBytes: 1000}, listener("web", "*.example.com", route("r", nil, rules...)))
	s.backend("a", mesh.AppUnknown, says("a"))
	s.backend("b", mesh.AppHTTP2, says("b"))
	s.backend("slow", mesh.AppUnknown, func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	s.backend("rude", mesh.AppUnknown, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	s.endpoint("down", mesh.AppUnknown, netip.MustParseAddrPort("127.0.0.1:1"))
	client := s.client()
	for _, tc := range []struct {
		url    string
		body   string
		status int
		want   string // body, or reason
		headers,
		wantHeaders []string
	}{
		{url: "/a/x?q=%zz;1", status: 200, want: "a", wantHeaders: []string{"X-Path", "/a/x?q=%zz;1", "X-Host", "shop.example.com", "X-Proto", "HTTP/1.1", "X-Forwarded-For", "127.0.0.1"}},
		{url: "/a/%7Ex/../y%2fz", status: 200, want: "a", wantHeaders: []string{"X-Path", "/a/y%2Fz"}},
		{url: "/a", body: "hello", status: 200, want: "ahello", headers: []string{"X-Forwarded-For", "1.2.3.4"}, wantHeaders: []string{"X-Forwarded-For", "127.0.0.1"}},
		{url: "/a", body: strings.Repeat("x", 1001), status: 413, want: "body_too_large"},
		{url: "/h2c", body: "hello", status: 200, want: "bhello", wantHeaders: []string{"X-Proto", "HTTP/2.0"}},
		{url: "/elsewhere", status: 404, want: "no_route"},
		{url: "/nobody", status: 503, want: "no_endpoint"},
		{url: "/down", body: "hello", status: 503, want: "connect_failed"},
		{url: "/gone", status: 500, want: "invalid_backend"},
		{url: "/none", status: 500, want: "invalid_backend"},
		{url: "/weightless", status: 500, want: "invalid_backend"},
		{url: "/odd", status: 500, want: "invalid_rule"},
		{url: "/filters/x", status: 200, want: "a", headers: []string{"X-Seen", "client"},
			wantHeaders: []string{"X-Seen", "rule,backend", "X-Set", "1", "X-Path", "/new/x,added", "X-Host", ""}},
		{url: "/moved/x?y", status: 301, want: "", wantHeaders: []string{"Location", "http://new.example.com/moved/x?y"}},
		{url: "/slow", status: 504, want: "timeout"},
		{url: "/slow-backend", body: "hello", status: 504, want: "timeout"},
		{url: "/rude", status: 502, want: "upstream_failed"},
	} {
		method := "GET"
		if tc.body != "" {
			method = "POST"
		}
		response, text := s.ask(client, method, "http://shop.example.com"+tc.url, tc.body, tc.headers...)
		if reason := response.Header.Get(headerReason); reason != "" {
			text = reason
		}
		if response.StatusCode != tc.status || text != tc.want {
			t.Errorf("%s answers %d %q, want %d %q", tc.url, response.StatusCode, text, tc.status, tc.want)
		}
		for i := 0; i < len(tc.wantHeaders); i += 2 {
			if got := strings.Join(response.Header.Values(tc.wantHeaders[i]), ","); got != tc.wantHeaders[i+1] {
				t.Errorf("%s has header %s %q, want %q", tc.url, tc.wantHeaders[i], got, tc.wantHeaders[i+1])
			}
		}
	}
	if response, _ := s.ask(client, "GET", "http://example.org/a", ""); response.StatusCode != http.StatusNotFound || response.Header.Get(headerReason) != "no_listener" {
		t.Errorf("a host of no listener answers %d", response.StatusCode)
	}
	s.drain()
	for _, want := range []string{`"path":"/a/x"`, `"reason":"timeout"`, `"route":"n/r"`} {
		if !strings.Contains(s.logs.String(), want) {
			t.Errorf("the access log has no %s", want)
		}
	}
	if n := s.counted("isthmus_gateway_http_requests_total", "504"); n != 2 {
		t.Errorf("%v timeouts are counted", n)
	}
}

// A connection that cannot be made is tried elsewhere with the whole request, and the endpoint is left alone for a while.
func TestAnotherEndpoint(t *testing.T) {
	s := newScene(t, Limits{}, listener("web", "", route("r", nil, with(rule("x", prefix("/")), func(r *mesh.HTTPRule) { r.Backends = []mesh.HTTPBackend{to("a")} }))))
	s.backend("a", mesh.AppUnknown, says("a"))
	s.endpoint("a", mesh.AppUnknown, netip.MustParseAddrPort("127.0.0.1:1"))
	client := s.client()
	for range 40 {
		if response, text := s.ask(client, "POST", "http://x/", "hello"); response.StatusCode != http.StatusOK || text != "ahello" {
			t.Fatalf("%d %q", response.StatusCode, text)
		}
	}
	if n := s.counted("isthmus_gateway_http_endpoint_connect_failures_total", ""); n == 0 || n > 10 {
		t.Errorf("%v attempts failed in 40 requests, want one now and then", n)
	}
}

// Weights are kept, also the one of nothing.
func TestWeights(t *testing.T) {
	b := func(name string, weight uint32) mesh.HTTPBackend {
		out := to(name)
		out.Weight = weight
		return out
	}
	r := with(rule("x", prefix("/")), func(r *mesh.HTTPRule) { r.Backends = []mesh.HTTPBackend{b("a", 70), b("b", 30), b("c", 0)} })
	count := map[string]int{}
	for range 10000 {
		chosen, refusal := choose(&r)
		if refusal != nil {
			t.Fatal(refusal)
		}
		count[chosen.Service.Hostname[:1]]++
	}
	if count["a"] < 6700 || count["a"] > 7300 || count["c"] != 0 {
		t.Errorf("of 10000 requests %v", count)
	}
}

// Copies go where they are to go, and their answers nowhere.
func TestMirror(t *testing.T) {
	var copies atomic.Int32
	r := with(rule("x", prefix("/")), func(r *mesh.HTTPRule) {
		r.Backends = []mesh.HTTPBackend{to("a")}
		r.Filters.Mirrors = []mesh.HTTPMirror{{Backend: to("b"), Numerator: 1, Denominator: 1}, {Backend: to("c"), Numerator: 0, Denominator: 1}}
		r.Filters.Request.Set = []mesh.NameValue{{Name: "X-Seen", Value: "both"}}
	})
	s := newScene(t, Limits{}, listener("web", "", route("r", nil, r)))
	s.backend("a", mesh.AppUnknown, says("a"))
	s.backend("b", mesh.AppUnknown, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if string(body) == "hello" && r.Header.Get("X-Seen") == "both" && r.URL.Path == "/p" {
			copies.Add(1)
		}
		w.WriteHeader(http.StatusInternalServerError)
	})
	s.backend("c", mesh.AppUnknown, func(http.ResponseWriter, *http.Request) { copies.Add(100) })
	for range 5 {
		if response, text := s.ask(s.client(), "POST", "http://x/p", "hello"); response.StatusCode != http.StatusOK || text != "ahello" {
			t.Fatalf("%d %q", response.StatusCode, text)
		}
	}
	s.until("five copies came", func() bool { return copies.Load() == 5 })
}

// An upgraded connection carries bytes both ways, over a change of the configuration, and a drain waits for it.
func TestUpgrade(t *testing.T) {
	rules := with(rule("x", prefix("/")), func(r *mesh.HTTPRule) {
		r.Backends, r.BackendTimeout = []mesh.HTTPBackend{to("a")}, patience
	})
	s := newScene(t, Limits{}, listener("web", "", route("r", nil, rules)))
	s.backend("a", mesh.AppUnknown, func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", r.Header.Get("Upgrade"))
		io.Copy(conn, rw)
	})
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprint(conn, "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	from := bufio.NewReader(conn)
	response, err := http.ReadResponse(from, nil)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%+v, %v\n%s", response, err, s.logs)
	}
	echo := func(text string) {
		t.Helper()
		fmt.Fprintln(conn, text)
		if line, err := from.ReadString('\n'); err != nil || line != text+"\n" {
			t.Fatalf("%q, %v", line, err)
		}
	}
	echo("one")
	s.port.Configure([]mesh.Listener{listener("web", "elsewhere")})
	echo("two")
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		s.drain()
	}()
	s.until("no connection is taken any more", func() bool {
		c, err := net.DialTimeout("tcp", s.address, time.Second)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	echo("three")
	select {
	case <-drained:
		t.Fatal("the drain did not wait")
	default:
	}
	conn.Close()
	select {
	case <-drained:
	case <-time.After(patience):
		t.Fatal("the drain did not end")
	}
}

// While the configuration changes all the time, no request fails and none is answered by rules that were never in force.
func TestChangesDropNothing(t *testing.T) {
	listenerTo := func(name string) mesh.Listener {
		return listener("web", "", route("r", nil, with(rule(name, prefix("/")), func(r *mesh.HTTPRule) { r.Backends = []mesh.HTTPBackend{to(name)} })))
	}
	s := newScene(t, Limits{}, listenerTo("a"))
	s.backend("a", mesh.AppUnknown, says("a"))
	s.backend("b", mesh.AppUnknown, says("b"))
	stop, changes := make(chan struct{}), 0
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				changes++
				s.port.Configure([]mesh.Listener{listenerTo(string("ab"[changes%2]))})
			}
		}
	})
	var clients sync.WaitGroup
	for range 4 {
		client := s.client()
		clients.Go(func() {
			for range 100 {
				if response, text := s.ask(client, "POST", "http://x/", "!"); response.StatusCode != http.StatusOK || text != "a!" && text != "b!" {
					t.Errorf("%d %q", response.StatusCode, text)
				}
			}
		})
	}
	clients.Wait()
	close(stop)
	wait.Wait()
	if changes < 10 {
		t.Errorf("only %d changes", changes)
	}
}

// A drain whose time is over cuts what still runs, and says so.
func TestDrainCuts(t *testing.T) { inMemory(t, testDrainCuts) }

func testDrainCuts(t *testing.T, in network) {
	s := newSceneIn(t, in, Limits{}, listener("web", "", route("r", nil, with(rule("x", prefix("/")), func(r *mesh.HTTPRule) { r.Backends = []mesh.HTTPBackend{to("a")} }))))
	begun := make(chan struct{})
	s.backend("a", mesh.AppUnknown, func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("half"))
		w.(http.Flusher).Flush()
		close(begun)
		<-r.Context().Done()
	})
	failed := make(chan error, 1)
	go func() {
		response, err := s.client().Get("http://x/")
		if err == nil {
			_, err = io.ReadAll(response.Body)
			response.Body.Close()
		}
		failed <- err
	}()
	<-begun
	ctx, cancel := context.WithTimeout(t.Context(), time.Second) // in which what is begun arrives
	defer cancel()
	s.port.Drain(ctx)
	if err := <-failed; err == nil {
		t.Error("half an answer was taken for a whole one")
	}
	if !strings.Contains(s.logs.String(), `"reason":"drained"`) {
		t.Errorf("the log does not say that it was cut:\n%s", s.logs)
	}
}
