// SPDX-License-Identifier: Apache-2.0

package http

import (
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// What is reserved for another attempt is as much as has come of the body, and nothing any more once no other attempt can come, however long the answer takes.
func TestReplayReserves(t *testing.T) {
	for name, tc := range map[string]struct {
		body     io.Reader
		retry    mesh.HTTPRetry
		times    int   // that it fails
		reserved int64 // while the backend has the request
	}{
		"a body of known length":      {strings.NewReader("hello"), mesh.HTTPRetry{Codes: []uint16{503}, Attempts: 2}, 0, 5},
		"one of unknown length":       {struct{ io.Reader }{strings.NewReader("hello")}, mesh.HTTPRetry{Codes: []uint16{503}, Attempts: 2}, 0, 5},
		"one that is sent once more":  {strings.NewReader("hello"), mesh.HTTPRetry{Codes: []uint16{503}, Attempts: 2}, 1, 5},
		"one for the last time":       {strings.NewReader("hello"), mesh.HTTPRetry{Codes: []uint16{503}, Attempts: 1}, 1, 0},
		"one that is never sent anew": {strings.NewReader("hello"), mesh.HTTPRetry{Codes: []uint16{503}}, 0, 0},
		"none":                        {nil, mesh.HTTPRetry{Codes: []uint16{503}, Attempts: 2}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, Limits{RetryBytes: 1000, BodyMemory: 1000}, listener("web", "", route("r", nil, with(rule("x", prefix("/")), func(r *mesh.HTTPRule) {
				r.Backends, r.Retry = []mesh.HTTPBackend{to("a")}, &tc.retry
			}))))
			asked, answer, end := make(chan int64), make(chan struct{}), make(chan struct{})
			failures := 0
			s.backend("a", mesh.AppUnknown, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if failures++; failures <= tc.times {
					w.WriteHeader(http.StatusServiceUnavailable)
					return
				}
				asked <- int64(len(body))
				<-answer
				w.WriteHeader(http.StatusOK)
				_ = http.NewResponseController(w).Flush()
				<-end
			})
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://x/", tc.body)
			if err != nil {
				t.Fatal(err)
			}
			began := make(chan *http.Response, 1)
			go func() {
				response, err := s.client().Do(r)
				if err != nil {
					t.Error(err)
				}
				began <- response
			}()
			if n := <-asked; tc.body != nil && n != 5 {
				t.Errorf("%d bytes came", n)
			}
			s.until("as much is reserved as is needed", func() bool { return s.server.replayed.inUse() == tc.reserved })
			close(answer)
			response := <-began
			s.until("nothing is reserved while the answer comes", func() bool { return s.server.replayed.inUse() == 0 })
			close(end)
			if response != nil {
				_, _ = io.Copy(io.Discard, response.Body)
				response.Body.Close()
			}
			s.drain()
			if n := s.server.replayed.inUse(); n != 0 {
				t.Errorf("%d bytes are reserved in the end", n)
			}
		})
	}
}

// What an attempt that is over still reads is the next one's, also if there is no memory for it; for a third there is nothing then.
func TestReplayWithoutMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, into := io.Pipe()
		p := newReplay(from, 100, &portion{pool: newPool[string](10)})
		first := p.turn()
		read := make(chan struct{})
		go func() {
			defer close(read)
			_, _ = io.ReadAll(first)
		}()
		_, _ = io.WriteString(into, "hello") // as much as one namespace may have
		synctest.Wait()                      // it waits for more
		if !p.rewind() {
			t.Fatal("what was kept cannot be sent again")
		}
		second := p.turn()
		_, _ = io.WriteString(into, " world")
		<-read
		go func() {
			_, _ = io.WriteString(into, " and more")
			into.Close()
		}()
		if got, err := io.ReadAll(second); err != nil || string(got) != "hello world and more" {
			t.Errorf("the second attempt gets %q, %v", got, err)
		}
		if p.rewind() {
			t.Error("a third attempt would lack what was not kept")
		}
		p.memory.giveBack()
		if n := p.memory.pool.inUse(); n != 0 {
			t.Errorf("%d bytes are not given back", n)
		}
	})
}

// Trailers may come to who still reads the body for an attempt that is over. The next attempt, which sends its own meanwhile, has them when it has read that far, and in a place that nobody else writes to.
func TestReplayOfTrailers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, into := io.Pipe()
		r := &http.Request{Body: from, Trailer: http.Header{"X-Sum": nil}}
		came := r.Trailer
		settleTrailers(r, true)
		p := newReplay(r.Body, 100, &portion{pool: newPool[string](1000)})
		p.trailer = r.Trailer
		first := p.turn()
		read := make(chan struct{})
		go func() {
			defer close(read)
			_, _ = io.ReadAll(first)
		}()
		_, _ = io.WriteString(into, "hello")
		synctest.Wait() // it waits for more
		if !p.rewind() {
			t.Fatal("what was kept cannot be sent again")
		}
		second := p.turn()
		came["X-Sum"] = []string{"1"} // as the server does before it says that the body has ended
		into.Close()
		<-read
		synctest.Wait() // what was read for the first attempt is there
		if got := second.trailer; !maps.EqualFunc(got, http.Header{"X-Sum": nil}, slices.Equal) {
			t.Errorf("the second attempt's trailers are %q before it has read the body", got)
		}
		if got, err := io.ReadAll(second); err != nil || string(got) != "hello" {
			t.Errorf("the second attempt gets %q, %v", got, err)
		}
		if got := second.trailer.Get("X-Sum"); got != "1" {
			t.Errorf("the second attempt gets %q for a trailer", got)
		}
	})
}

// What is kept in case that an endpoint in HTTP/2 does not process a request takes no memory from what is kept for other attempts, nor the other way round.
func TestBodiesKeptForDifferentReasons(t *testing.T) {
	again := func(r *mesh.HTTPRule) {
		r.Backends, r.Retry = []mesh.HTTPBackend{to("b")}, &mesh.HTTPRetry{Codes: []uint16{503}, Attempts: 1}
	}
	s := newScene(t, Limits{BodyMemory: 1000}, listener("web", "", route("r", nil,
		with(rule("once", prefix("/")), func(r *mesh.HTTPRule) { r.Backends = []mesh.HTTPBackend{to("a")} }), with(rule("again", prefix("/again")), again))))
	came, end := make(chan struct{}, 2), make(chan struct{})
	s.backend("a", mesh.AppHTTP2, func(_ http.ResponseWriter, r *http.Request) {
		came <- struct{}{}
		io.CopyN(io.Discard, r.Body, 300)
		<-end
	})
	var failed atomic.Bool
	ok := says("ok")
	s.backend("b", mesh.AppUnknown, func(w http.ResponseWriter, r *http.Request) {
		if !failed.Swap(true) {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		ok(w, r)
	})
	var all sync.WaitGroup
	defer all.Wait()
	defer close(end)
	client := s.client()
	for range 2 {
		body, more := io.Pipe()
		defer more.Close()
		all.Go(func() {
			r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://x/", body)
			if response, err := client.Do(r); err == nil {
				response.Body.Close()
			}
		})
		io.WriteString(more, strings.Repeat("x", 300))
	}
	<-came
	<-came
	s.until("what came is kept", func() bool { return s.server.unprocessed.inUse() > 0 })
	for range 2 {
		failed.Store(false)
		if response, text := s.ask(client, http.MethodPut, "http://x/again", strings.Repeat("y", 400)); response.StatusCode != http.StatusOK {
			t.Errorf("a request that is to be tried again is answered %s, %q", response.Status, text)
		}
	}
}
