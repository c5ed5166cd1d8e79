// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const (
	someGateways    = "https://far/apis/gateway.networking.k8s.io/v1/gateways?watch=true&resourceVersion=7"
	someGatewayList = "https://far/apis/gateway.networking.k8s.io/v1/gateways?limit=500"
)

// scripted answers requests in turn, the last answer for ever, and notes when each came.
type scripted struct {
	answers []func(*http.Request) (*http.Response, error)
	came    []time.Duration
	began   time.Time
}

func (s *scripted) RoundTrip(r *http.Request) (*http.Response, error) {
	s.came = append(s.came, time.Since(s.began))
	return s.answers[min(len(s.came), len(s.answers))-1](r)
}

func with(code int, retryAfter string) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		header := http.Header{}
		if retryAfter != "" {
			header.Set("Retry-After", retryAfter)
		}
		return says{code: code, kind: "application/json", more: header}.RoundTrip(r)
	}
}

func broken(*http.Request) (*http.Response, error) { return nil, errors.New("connection reset") }

// patient is patience as a connection makes it.
func patient(answers ...func(*http.Request) (*http.Response, error)) (*patience, *scripted, *int) {
	far, told := &scripted{answers: answers, began: time.Now()}, new(int)
	i := newIntake(far, DefaultRoom, newBudget())
	return &patience{next: i, follows: &i.follows, gate: &gate{}, failed: func() { *told++ }}, far, told
}

func (p *patience) ask(ctx context.Context, url string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		panic(err)
	}
	return p.RoundTrip(r)
}

func TestPatience(t *testing.T) {
	type call = func(*http.Request) (*http.Response, error)
	for _, tc := range []struct {
		name    string
		url     string
		answers []call
		code    int           // that who asked gets
		tries   int           // that it takes
		within  time.Duration // it comes
	}{
		{"what works", someGateways, []call{with(200, "")}, 200, 1, 0},
		{"a history that is gone is news", someGateways, []call{with(410, "")}, 410, 1, 0},
		{"a kind that is gone is news", someGatewayList, []call{with(404, "")}, 404, 1, 0},
		{"what is not understood is news", someGateways, []call{with(422, "")}, 422, 1, 0},
		{"a right that comes back", someGatewayList, []call{with(403, ""), with(403, ""), with(200, "")}, 200, 3, 3 * time.Second},
		{"credentials that count again", someGateways, []call{with(401, ""), with(200, "")}, 200, 2, time.Second},
		{"a loss", someGateways, []call{broken, broken, broken, broken, broken, broken, with(200, "")}, 200, 7, 36 * time.Second},
		{"a long loss: pauses are bounded", someGateways, append(slices.Repeat([]call{broken}, 60), with(200, "")), 200, 61, 60 * 10 * time.Second},
		{"leave me alone for a second", someGateways, []call{with(429, "1"), with(200, "")}, 200, 2, 2 * time.Second},
		{"leave me alone for ever", someGateways, []call{with(503, "1000000000"), with(200, "")}, 200, 2, 11 * time.Second},
		{"leave me alone, says a question's answer", "https://far/version", []call{with(429, "1000000000")}, 429, 1, 0},
		{"a question is asked once", "https://far/version", []call{with(503, "")}, 503, 1, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			before := probeEvery
			probeEvery = 10 * time.Second
			defer func() { probeEvery = before }()
			p, far, told := patient(tc.answers...)
			answer, err := p.ask(t.Context(), tc.url)
			if err != nil {
				t.Fatalf("%s: %v", tc.name, err)
			}
			_ = answer.Body.Close()
			took := time.Since(far.began)
			if answer.StatusCode != tc.code || len(far.came) != tc.tries || took > tc.within || took < tc.within/3 {
				t.Errorf("%s: %d after %d tries and %v, want %d after %d and about %v", tc.name, answer.StatusCode, len(far.came), took, tc.code, tc.tries, tc.within)
			}
			if *told != tc.tries-1 {
				t.Errorf("%s: %d failures were told, want %d", tc.name, *told, tc.tries-1)
			}
			if answer.Header.Get("Retry-After") != "" {
				t.Errorf("%s: client-go would wait by itself", tc.name)
			}
		})
	}
}

// Room that is full is for the reflector to notice, which then reads seldom.
func TestPatienceLeavesFullnessAlone(t *testing.T) {
	p, far, _ := patient(with(200, ""))
	p.next.(*intake).full = func() bool { return true }
	if _, err := p.ask(t.Context(), someGateways); !errors.Is(err, errFull) || len(far.came) != 0 {
		t.Errorf("%v after %d tries", err, len(far.came))
	}
}

func TestPatienceEndsWithItsContext(t *testing.T) {
	for name, url := range map[string]string{"a watch": someGateways, "a list": someGatewayList} {
		synctest.Test(t, func(t *testing.T) {
			p, _, _ := patient(broken)
			ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
			defer cancel()
			if _, err := p.ask(ctx, url); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

// While the server does not answer our questions nothing else is asked, but for one attempt a minute.
func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, far, _ := patient(broken, with(200, ""))
		p.gate.set(false)
		p.gate.set(false)
		done := make(chan time.Duration)
		go func() {
			answer, err := p.ask(t.Context(), someGateways)
			if err == nil {
				_ = answer.Body.Close()
			}
			done <- time.Since(far.began)
		}()
		time.Sleep(90 * time.Second)
		synctest.Wait()
		if want := []time.Duration{holdMost}; !slices.Equal(far.came, want) {
			t.Errorf("asked at %v, want %v", far.came, want)
		}
		p.gate.set(true)
		if at := <-done; at != 90*time.Second {
			t.Errorf("went on at %v, want at once", at)
		}
		p.gate.set(true)
	})
}

// body is one that a test writes.
func body() (call func(*http.Request) (*http.Response, error), write func(string), end func(error)) {
	near, far := io.Pipe()
	call = func(r *http.Request) (*http.Response, error) {
		stop := context.AfterFunc(r.Context(), func() { _ = far.CloseWithError(r.Context().Err()) })
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: closer{near, func() { stop() }}}, nil
	}
	return call, func(s string) { _, _ = far.Write([]byte(s)) }, func(err error) { _ = far.CloseWithError(err) }
}

type closer struct {
	io.ReadCloser
	also func()
}

func (c closer) Close() error {
	c.also()
	return c.ReadCloser.Close()
}

func TestFlow(t *testing.T) {
	reset := errors.New("connection reset")
	for _, tc := range []struct {
		name     string
		url      string
		do       func(write func(string), end func(error))
		want     error // that reading ends with
		at       time.Duration
		failures int
	}{
		{"a watch that says something now and then", someGateways, func(write func(string), end func(error)) {
			for range 5 {
				time.Sleep(quietWatch - time.Second)
				write("{}")
			}
			end(io.EOF)
		}, nil, 5 * (quietWatch - time.Second), 0},
		{"a watch that says nothing: it is begun anew", someGateways, func(func(string), func(error)) {}, nil, quietWatch, 0},
		{"a watch that stops in the middle", someGateways, func(write func(string), _ func(error)) { write(`{"type":"ADD`) }, nil, 2 * quietWatch, 0},
		{"a watch that is cut at once", someGateways, func(_ func(string), end func(error)) { end(reset) }, io.ErrUnexpectedEOF, shortest, 1},
		{"a watch that ends at once", someGateways, func(_ func(string), end func(error)) { end(io.EOF) }, nil, shortest, 0},
		{"a list", someGatewayList, func(write func(string), end func(error)) { write("x"); end(io.EOF) }, nil, 0, 0},
		{"a list at a byte a second", someGatewayList, func(write func(string), _ func(error)) {
			for range 40 {
				write("x")
				time.Sleep(time.Second)
			}
		}, errSlow, listWindow, 0},
		{"a slow list", someGatewayList, func(write func(string), end func(error)) {
			for range 100 {
				write(string(make([]byte, 2*listPace)))
				time.Sleep(time.Second)
			}
			end(io.EOF)
		}, nil, 100 * time.Second, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			call, write, end := body()
			p, _, _ := patient(call)
			answer, err := p.ask(t.Context(), tc.url)
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			var running sync.WaitGroup
			running.Go(func() { tc.do(write, end) })
			_, err = io.Copy(io.Discard, answer.Body)
			if took := time.Since(began); !errors.Is(err, tc.want) || took != tc.at {
				t.Errorf("%s: ended after %v with %v, want %v with %v", tc.name, took, err, tc.at, tc.want)
			}
			_ = answer.Body.Close()
			if got, _ := p.follows.record("/apis/gateway.networking.k8s.io/v1/gateways"); got != tc.failures {
				t.Errorf("%s: %d failures, want %d", tc.name, got, tc.failures)
			}
			end(io.EOF)
			running.Wait()
		})
	}
}

// A server that takes a request and never begins to answer is asked again.
func TestFlowThatNeverBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		never := func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}
		p, far, told := patient(never, with(200, ""))
		answer, err := p.ask(t.Context(), someGateways)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if len(far.came) != 2 || far.came[1] < quietWatch || *told != 1 {
			t.Errorf("asked at %v, told %d times", far.came, *told)
		}
	})
}

// What a watch tells is nonsense: that counts once, and it may be gone on with.
func TestFlowThatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range watchFailures {
			call, write, _ := body()
			p, _, _ := patient(call)
			answer, err := p.ask(t.Context(), someGateways)
			if err != nil {
				t.Fatal(err)
			}
			go write("nonsense")
			if _, err := answer.Body.Read(make([]byte, 8)); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatal(err)
			}
			_ = answer.Body.Close()
			if got, _ := p.follows.record("/apis/gateway.networking.k8s.io/v1/gateways"); got != 1 {
				t.Errorf("%d failures", got)
			}
		}
	})
}
