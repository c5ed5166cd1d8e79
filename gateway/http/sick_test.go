// SPDX-License-Identifier: Apache-2.0

package http

import (
	"maps"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// An endpoint whose answers are tried again elsewhere, one after the other, is left alone like one that cannot be connected to, and asked once now and then until it is well.
func TestSickEndpointsAreLeftOut(t *testing.T) {
	retry := &mesh.HTTPRetry{Codes: []uint16{503}, Attempts: 2}
	s := newScene(t, Limits{}, listener("web", "", route("r", nil,
		with(rule("x", prefix("/")), func(r *mesh.HTTPRule) { r.Backends, r.Retry = []mesh.HTTPBackend{to("a")}, retry }),
		with(rule("unnamed", prefix("/unnamed")), func(r *mesh.HTTPRule) {
			r.Backends, r.Retry = []mesh.HTTPBackend{to("b")}, &mesh.HTTPRetry{Codes: []uint16{502}, Attempts: 2}
		}),
		with(rule("plain", prefix("/plain")), func(r *mesh.HTTPRule) { r.Backends = []mesh.HTTPBackend{to("b")} }))))
	var past atomic.Int64
	began := time.Now()
	s.server.outliers.now = func() time.Time { return began.Add(time.Duration(past.Load())) }
	var asked [2]atomic.Int32
	var well, breaks atomic.Bool
	for i, service := range []string{"a", "b"} {
		s.backend(service, mesh.AppUnknown, func(w http.ResponseWriter, _ *http.Request) {
			switch asked[i].Add(1); {
			case well.Load():
			case breaks.Load():
				panic(http.ErrAbortHandler)
			default:
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		})
		s.backend(service, mesh.AppUnknown, says("well"))
	}
	client := s.client()
	// times says how often the sick one is asked during many requests, which are all answered.
	times := func() int32 {
		t.Helper()
		was := asked[0].Load()
		for range 60 {
			if response, _ := s.ask(client, http.MethodGet, "http://x/", ""); response.StatusCode != http.StatusOK {
				t.Fatalf("answered %d", response.StatusCode)
			}
		}
		return asked[0].Load() - was
	}
	if got := times(); got != sickAfter {
		t.Errorf("it is asked %d times, want %d", got, sickAfter)
	}
	if got := times(); got != 0 {
		t.Errorf("it is asked %d times while it is left out", got)
	}
	past.Add(int64(ejectMin))
	if got := times(); got != 1 {
		t.Errorf("it is asked %d times after a while, want once", got)
	}
	past.Add(int64(ejectMin))
	if got := times(); got != 0 {
		t.Errorf("it is asked %d times: the second while is not longer", got)
	}
	past.Add(int64(ejectMin))
	well.Store(true)
	if got := times(); got < 10 {
		t.Errorf("it is well, and asked %d times", got)
	}
	well.Store(false)
	breaks.Store(true)
	if got := times(); got < 1 || got > 2*sickAfter { // one that comes by a kept connection is sent again by a new one
		t.Errorf("it ends connections, and is asked %d times, want at most %d", got, 2*sickAfter)
	}
	if got := s.counted("isthmus_gateway_http_endpoints_left_out_total", ""); got != 3 {
		t.Errorf("%v are counted, want 3", got)
	}

	// An answer that no rule tries again says nothing against who gives it.
	breaks.Store(false)
	for _, path := range []string{"unnamed", "plain"} {
		was := asked[1].Load()
		for range 60 {
			s.ask(client, http.MethodGet, "http://x/"+path, "")
		}
		if got := asked[1].Load() - was; got < 10 {
			t.Errorf("/%s: asked %d times", path, got)
		}
	}
}

// An endpoint that a rule gives too little time is left out for that by its route alone: whoever sends there by others, and waits, is answered by it.
func TestShortTimesAreTheirRoutesOwn(t *testing.T) {
	inMemory(t, func(t *testing.T, in network) {
		own := func(name string, r *mesh.HTTPRetry, limit time.Duration) *mesh.HTTPRoute {
			return route(name, nil, with(rule("x", prefix("/"+name)), func(to *mesh.HTTPRule) {
				to.Backends, to.Retry, to.BackendTimeout = []mesh.HTTPBackend{{Service: key("a"), Port: 80, Weight: 1}}, r, limit
			}))
		}
		retry := &mesh.HTTPRetry{Codes: []uint16{504}, Attempts: 2}
		s := newSceneIn(t, in, Limits{}, listener("web", "", own("hasty", retry, 100*time.Millisecond), own("patient", nil, 0), own("hastier", retry, 10*time.Millisecond)))
		began := time.Now()
		s.server.outliers.now = func() time.Time { return began } // who is left out stays so
		var asked [3]atomic.Int32
		s.backend("a", mesh.AppUnknown, func(_ http.ResponseWriter, r *http.Request) {
			asked[slices.Index([]string{"/hasty", "/patient", "/hastier"}, r.URL.Path)].Add(1)
			sleep(r.Context(), 150*time.Millisecond)
		})
		s.backend("a", mesh.AppUnknown, says("well"))
		client := s.client()
		// times says how often the slow one is asked.
		times := func(route int, path string, requests int) int32 {
			t.Helper()
			was := asked[route].Load()
			for range requests {
				if response, _ := s.ask(client, http.MethodGet, "http://x/"+path, ""); response.StatusCode != http.StatusOK {
					t.Fatalf("answered %d", response.StatusCode)
				}
			}
			return asked[route].Load() - was
		}
		if got := times(0, "hasty", 60); got != sickAfter {
			t.Errorf("the slow one is asked %d times by the rule with little time, want %d", got, sickAfter)
		}
		if got := times(2, "hastier", 60); got != sickAfter {
			t.Errorf("it is asked %d times by another one, want %d", got, sickAfter)
		}
		if got := times(1, "patient", 60); got == 0 {
			t.Error("it is asked by nobody else")
		}
	})
}

// Bad answers count while no good one is between them.
func TestSickInARow(t *testing.T) {
	now := time.Now()
	o := outliers{now: func() time.Time { return now }}
	of := portKey{portOf{service: key("a"), port: 80}, "p1"}
	out := func() []string { return slices.Sorted(maps.Keys(o.out(of.portOf))) }
	bad := func(times int) (left bool) {
		for range times {
			left = o.answeredBadly(of) || left
		}
		return left
	}
	if bad(sickAfter-1) || out() != nil {
		t.Error("it is left out early")
	}
	o.succeeded(of)
	if bad(sickAfter-1) || out() != nil {
		t.Error("a good answer does not count")
	}
	if !bad(1) || !slices.Equal(out(), []string{"p1"}) {
		t.Error("it is not left out")
	}
	if bad(sickAfter) {
		t.Error("answers to requests that were under way count")
	}
	now = now.Add(ejectMin)
	if out() != nil {
		t.Error("it is never let in again")
	}
	if !bad(1) {
		t.Error("after a while one answer is not enough")
	}
	now = now.Add(ejectMin)
	if out() == nil {
		t.Error("the second time is not longer")
	}
	now = now.Add(ejectMin)
	if o.failed(of); out() == nil {
		t.Error("one that cannot be connected to afterwards is let in")
	}
	now = now.Add(4*ejectMin + 2*ejectMax + 1)
	if out(); o.some.Load() {
		t.Error("it is never forgotten")
	}
}
