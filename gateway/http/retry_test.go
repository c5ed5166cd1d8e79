// SPDX-License-Identifier: Apache-2.0

package http

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// failing answers with a status, or by ending the connection for 0, until it was asked often enough. Its answers say how often that was.
func failing(status, times int) (http.HandlerFunc, *atomic.Int32) {
	var asked atomic.Int32
	return func(w http.ResponseWriter, r *http.Request) {
		n := asked.Add(1)
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if int(n) > times {
			fmt.Fprintf(w, "ok%s", body)
			return
		}
		if status == 0 {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(status)
		fmt.Fprint(w, "failed")
	}, &asked
}

func TestRetries(t *testing.T) {
	all := []uint16{500, 502, 503, 504}
	for name, tc := range map[string]struct {
		retry         *mesh.HTTPRetry
		status, times int
		method, body  string
		timeout       time.Duration // of a backend
		want          int
		asked         int32
	}{
		"until it goes well":           {&mesh.HTTPRetry{Codes: all, Attempts: 3}, 500, 2, "GET", "", 0, 200, 3},
		"as often as the rule says":    {&mesh.HTTPRetry{Codes: all, Attempts: 3}, 500, 9, "GET", "", 0, 500, 4},
		"not for another code":         {&mesh.HTTPRetry{Codes: []uint16{500}, Attempts: 3}, 503, 1, "GET", "", 0, 503, 1},
		"never":                        {&mesh.HTTPRetry{Codes: all}, 500, 1, "GET", "", 0, 500, 1},
		"without a rule":               {nil, 500, 1, "GET", "", 0, 500, 1},
		"with its body":                {&mesh.HTTPRetry{Codes: all, Attempts: 2}, 503, 2, "POST", "hello", 0, 200, 3},
		"not with a body that is long": {&mesh.HTTPRetry{Codes: all, Attempts: 2}, 503, 1, "POST", strings.Repeat("x", 2000), 0, 503, 1},
		"of what broke":                {&mesh.HTTPRetry{Attempts: 2}, 0, 2, "PUT", "hello", 0, 200, 3},
		"not of what broke and counts": {&mesh.HTTPRetry{Attempts: 2}, 0, 1, "POST", "hello", 0, 502, 1},
		"of what broke and is named":   {&mesh.HTTPRetry{Codes: all, Attempts: 2}, 0, 1, "POST", "hello", 0, 200, 2},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, Limits{RetryBytes: 1000}, listener("web", "", route("r", nil, with(rule("x", prefix("/")), func(r *mesh.HTTPRule) {
				r.Backends, r.Retry, r.BackendTimeout = []mesh.HTTPBackend{to("a")}, tc.retry, tc.timeout
			}))))
			answers, asked := failing(tc.status, tc.times)
			s.backend("a", mesh.AppUnknown, answers)
			response, text := s.ask(s.client(), tc.method, "http://x/", tc.body)
			if response.StatusCode != tc.want || asked.Load() != tc.asked {
				t.Errorf("answered %d after %d attempts, want %d after %d", response.StatusCode, asked.Load(), tc.want, tc.asked)
			}
			if tc.want == 200 && text != "ok"+tc.body {
				t.Errorf("the answer is %q", text)
			}
			s.drain()
			if want := fmt.Sprintf(`"attempts":%d`, tc.asked); !strings.Contains(s.logs.String(), want) {
				t.Errorf("the log has no %s", want)
			}
			if n := s.counted("isthmus_gateway_http_retries_total", "sent"); n != float64(tc.asked-1) {
				t.Errorf("%v retries are counted", n)
			}
			if n := s.server.replayed.inUse(); n != 0 {
				t.Errorf("%d bytes of memory were not given back", n)
			}
		})
	}
}

// A body of unknown length that comes slowly is sent whole with each attempt, also if one fails before it has come.
func TestRetryOfStream(t *testing.T) {
	s := newScene(t, Limits{}, listener("web", "", route("r", nil, with(rule("x", prefix("/")), func(r *mesh.HTTPRule) {
		r.Backends, r.Retry = []mesh.HTTPBackend{to("a")}, &mesh.HTTPRetry{Codes: []uint16{503}, Attempts: 1}
	}))))
	asked := make(chan struct{}, 2)
	s.backend("a", mesh.AppUnknown, func(w http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		if len(asked) == 1 {
			http.NewResponseController(w).EnableFullDuplex() // or the library would wait for the body before it answers
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		io.Copy(w, r.Body)
	})
	from, into := io.Pipe()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://x/", from)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		io.WriteString(into, "first ")
		s.until("both attempts came", func() bool { return len(asked) == 2 })
		io.WriteString(into, "second")
		into.Close()
	}()
	response, err := s.client().Do(r)
	if err != nil {
		t.Fatalf("%v\n%s", err, s.logs)
	}
	defer response.Body.Close()
	if text, err := io.ReadAll(response.Body); err != nil || string(text) != "first second" {
		t.Errorf("%q, %v", text, err)
	}
}

// Attempts take no longer together than the rule's time for a request, each no longer than that for a backend.
func TestRetryTimeouts(t *testing.T) {
	one := func(change func(*mesh.HTTPRule)) (int, int32) {
		s := newScene(t, Limits{}, listener("web", "", route("r", nil, with(rule("x", prefix("/")), func(r *mesh.HTTPRule) {
			r.Backends = []mesh.HTTPBackend{to("a")}
			change(r)
		}))))
		var asked atomic.Int32
		s.backend("a", mesh.AppUnknown, func(w http.ResponseWriter, r *http.Request) {
			if asked.Add(1) < 3 {
				<-r.Context().Done()
			}
		})
		response, _ := s.ask(s.client(), "GET", "http://x/", "")
		return response.StatusCode, asked.Load()
	}
	if status, asked := one(func(r *mesh.HTTPRule) {
		r.BackendTimeout, r.RequestTimeout, r.Retry = 100*time.Millisecond, patience, &mesh.HTTPRetry{Attempts: 50}
	}); status != 200 || asked < 3 {
		t.Errorf("answered %d after %d attempts", status, asked)
	}
	if status, asked := one(func(r *mesh.HTTPRule) {
		r.BackendTimeout, r.RequestTimeout, r.Retry = patience, 100*time.Millisecond, &mesh.HTTPRetry{Attempts: 5}
	}); status != 504 || asked > 1 {
		t.Errorf("answered %d after %d attempts", status, asked)
	}
	// Nor does the wait between them.
	s := newScene(t, Limits{}, listener("web", "", route("r", nil, with(rule("x", prefix("/")), func(r *mesh.HTTPRule) {
		r.Backends, r.RequestTimeout, r.Retry = []mesh.HTTPBackend{to("a")}, 100*time.Millisecond, &mesh.HTTPRetry{Codes: []uint16{500}, Attempts: 5, Backoff: time.Hour}
	}))))
	answers, _ := failing(500, 9)
	s.backend("a", mesh.AppUnknown, answers)
	if response, _ := s.ask(s.client(), "GET", "http://x/", ""); response.StatusCode != http.StatusGatewayTimeout {
		t.Errorf("answered %d", response.StatusCode)
	}
}

// An attempt goes to an endpoint that has not failed the request, if there is one; connections that cannot be made count as attempts.
func TestRetryElsewhere(t *testing.T) {
	retry := &mesh.HTTPRetry{Codes: []uint16{500}, Attempts: 1}
	s := newScene(t, Limits{}, listener("web", "", route("r", nil,
		with(rule("x", prefix("/")), func(r *mesh.HTTPRule) { r.Backends, r.Retry = []mesh.HTTPBackend{to("a")}, retry }),
		with(rule("never", prefix("/never")), func(r *mesh.HTTPRule) { r.Backends, r.Retry = []mesh.HTTPBackend{to("b")}, &mesh.HTTPRetry{} }),
		with(rule("down", prefix("/down")), func(r *mesh.HTTPRule) { r.Backends, r.Retry = []mesh.HTTPBackend{to("c")}, retry }))))
	broken, _ := failing(500, 1<<30)
	s.backend("a", mesh.AppUnknown, broken)
	s.backend("a", mesh.AppUnknown, says("a"))
	client := s.client()
	for range 40 {
		if response, _ := s.ask(client, "GET", "http://x/", ""); response.StatusCode != http.StatusOK {
			t.Fatalf("answered %d", response.StatusCode)
		}
	}
	// Attempts that are none: not even an endpoint that could be connected to is asked.
	s.endpoint("b", mesh.AppUnknown, netip.MustParseAddrPort("127.0.0.1:1"))
	s.endpoint("b", mesh.AppUnknown, netip.MustParseAddrPort("127.0.0.2:1"))
	if response, _ := s.ask(client, "GET", "http://x/never", ""); response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("answered %d", response.StatusCode)
	}
	if n := s.counted("isthmus_gateway_http_endpoint_connect_failures_total", ""); n != 1 {
		t.Errorf("%v connections were tried", n)
	}
	s.endpoint("c", mesh.AppUnknown, netip.MustParseAddrPort("127.0.0.1:2"))
	if response, _ := s.ask(client, "GET", "http://x/down", ""); response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("answered %d", response.StatusCode)
	}
	if n := s.counted("isthmus_gateway_http_endpoint_connect_failures_total", ""); n != 3 {
		t.Errorf("%v connections were tried, want two more", n)
	}
}

// Of the requests that wait for a service, not more than a fifth are there for another time, once there are many.
func TestRetryBudget(t *testing.T) {
	var b budgets
	a, other := key("a"), key("b")
	var loads []*load
	for range 100 {
		loads = append(loads, b.begin(a))
	}
	took := 0
	for _, l := range loads {
		if b.take(a, l) {
			took++
		}
	}
	if took != 20 {
		t.Errorf("%d of 100 were tried again", took)
	}
	if !b.take(a, loads[0]) {
		t.Error("one that is tried again already counts twice")
	}
	few := b.begin(other)
	if !b.take(other, few) {
		t.Error("one service's failures keep another one's request from a second attempt")
	}
	b.end(other, few)
	for _, l := range loads {
		b.end(a, l)
	}
	if len(b.of) != 0 {
		t.Errorf("budgets stay: %v", b.of)
	}
}

// While there are no more than a few requests, the budget allows some in any case; what is beyond gets the backend's answer.
func TestOverBudget(t *testing.T) {
	s := newScene(t, Limits{}, listener("web", "", route("r", nil, with(rule("x", prefix("/")), func(r *mesh.HTTPRule) {
		r.Backends, r.Retry = []mesh.HTTPBackend{to("a")}, &mesh.HTTPRetry{Codes: []uint16{500}, Attempts: 1}
	}))))
	var again atomic.Int32
	release := make(chan struct{})
	s.backend("a", mesh.AppUnknown, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-First") != "" || again.Add(1) > 2*retryFloor {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		if again.Load()%2 == 0 {
			<-release
		}
		w.WriteHeader(http.StatusInternalServerError)
	})
	client := s.client()
	done := make(chan error, retryFloor)
	for i := range retryFloor {
		go func() {
			response, err := client.Get("http://x/")
			if err == nil {
				response.Body.Close()
			}
			done <- err
		}()
		s.until("the second attempt waits", func() bool { return int(again.Load()) == 2*(i+1) })
	}
	response, _ := s.ask(client, "GET", "http://x/", "", "X-First", "1")
	if response.StatusCode != http.StatusInternalServerError || s.counted("isthmus_gateway_http_retries_total", "over_budget") != 1 {
		t.Errorf("answered %d", response.StatusCode)
	}
	close(release)
	for range retryFloor {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// Times double up to a bound, and are never more than they may be.
func TestBackoff(t *testing.T) {
	for _, base := range []time.Duration{0, time.Millisecond, time.Duration(1<<63 - 1)} {
		n, most := 0, backoffBase
		if base > 0 {
			most = min(base, backoffMost)
		}
		first := most
		for wait := range backoff(base) {
			if wait < most/2-1 || wait > most {
				t.Errorf("wait %d from %s is %s, want up to %s", n, base, wait, most)
			}
			if most = min(2*most, backoffGrowth*first); n == 8 {
				break
			}
			n++
		}
	}
}

// A body that ends badly is not sent again.
func TestReplayOfBrokenBody(t *testing.T) {
	p := newReplay(io.MultiReader(strings.NewReader("half"), brokenReader{}), 100, &portion{pool: newPool[string](1000)})
	if text, err := io.ReadAll(p.turn()); string(text) != "half" || !errors.Is(err, errBroken) {
		t.Errorf("%q, %v", text, err)
	}
	if p.rewind() {
		t.Error("it would be sent again")
	}
	p = newReplay(strings.NewReader("whole"), 100, &portion{pool: newPool[string](1000)})
	old := p.turn()
	one := make([]byte, 2)
	old.Read(one)
	if !p.rewind() {
		t.Fatal("it cannot be read again")
	}
	if text, err := io.ReadAll(p.turn()); string(text) != "whole" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := old.Read(one); !errors.Is(err, errTurnOver) {
		t.Errorf("an attempt that is over reads on: %v", err)
	}
}

var errBroken = errors.New("broken")

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errBroken }
