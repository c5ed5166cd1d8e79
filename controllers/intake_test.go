// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// pours answers every request with a body of so many bytes, and a date.
type pours struct {
	size int64
	skew time.Duration
}

func (s pours) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Date": {time.Now().Add(s.skew).UTC().Format(http.TimeFormat)}, "Content-Type": {"application/json"}},
		Body: io.NopCloser(io.LimitReader(zeros{}, s.size)),
	}, nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func question(t *testing.T, url string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func ask(t *testing.T, i *intake, url string) (int64, error) {
	t.Helper()
	answer, err := i.RoundTrip(question(t, url))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	return io.Copy(io.Discard, answer.Body)
}

func TestIntakeHoldsBackWhoSendsTooFast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIntake(pours{size: 16 << 20}, DefaultRoom, newBudget())
		begin := time.Now()
		for range 48 { // 768 MiB: a burst, and 256 MiB at the rate
			if n, err := ask(t, i, "https://far/apis/gateway.networking.k8s.io/v1/gateways?limit=500"); err != nil || n != 16<<20 {
				t.Fatalf("%d bytes, %v", n, err)
			}
		}
		if took, want := time.Since(begin), 64*time.Second; took < want-2*time.Second || took > want+2*time.Second {
			t.Errorf("took %s, want %s", took, want)
		}
		if !recently(&i.held) || recently(&i.tooMuch) {
			t.Error("what was held back must be noted, and nothing else")
		}
		time.Sleep(time.Hour)
		if recently(&i.held) {
			t.Error("it is long ago")
		}
	})
}

func TestIntakeSeesTheOtherClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, skew := range []time.Duration{0, 500 * time.Millisecond, 3 * time.Minute, -3 * time.Minute} {
			i := newIntake(pours{skew: skew}, DefaultRoom, newBudget())
			if _, err := ask(t, i, "https://far/version"); err != nil {
				t.Fatal(err)
			}
			if got := time.Duration(i.ahead.Load()); got < skew-time.Second || got > skew+time.Second {
				t.Errorf("a clock that is %s ahead looks %s ahead", skew, got)
			}
		}
	})
}
