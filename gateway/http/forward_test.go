// SPDX-License-Identifier: Apache-2.0

package http

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWithoutHops(t *testing.T) {
	h := http.Header{
		"Connection": {"keep-alive, x-mine", "X-Also ,"}, "Keep-Alive": {"5"}, "X-Mine": {"a"}, "X-Also": {"b"}, "Te": {"gzip"}, "Trailer": {"X-Sum"},
		"Transfer-Encoding": {"chunked"}, "Upgrade": {"websocket"}, "Proxy-Connection": {"close"}, "Proxy-Authorization": {"secret"}, "Proxy-Authenticate": {"Basic"},
		"X-Kept": {"c", "d"}, "Authorization": {"theirs"},
	}
	withoutHops(h)
	if diff := cmp.Diff(http.Header{"X-Kept": {"c", "d"}, "Authorization": {"theirs"}}, h); diff != "" {
		t.Error(diff)
	}
}

// What a client says of who it is counts for nothing, and a client without an address is none.
func TestSetForwarded(t *testing.T) {
	for remote, wanted := range map[string][]string{"192.0.2.7:1234": {"192.0.2.7"}, "[2001:db8::1]:1": {"2001:db8::1"}, "pipe": nil} {
		r := &http.Request{Host: "shop.example.com", RemoteAddr: remote, Header: http.Header{
			"Forwarded": {"for=me"}, "X-Forwarded-For": {"10.0.0.1"}, "X-Forwarded-Host": {"a", "b"}, "X-Forwarded-Proto": {"gopher"},
		}}
		setForwarded(r)
		want := http.Header{"X-Forwarded-Host": {"shop.example.com"}, "X-Forwarded-Proto": {"http"}}
		if wanted != nil {
			want["X-Forwarded-For"] = wanted
		}
		if diff := cmp.Diff(want, r.Header); diff != "" {
			t.Errorf("%s: %s", remote, diff)
		}
		// A filter that adds to one must not write into its neighbour.
		r.Header.Add("X-Forwarded-For", "x")
		if got := r.Header.Get("X-Forwarded-Host"); got != "shop.example.com" {
			t.Errorf("X-Forwarded-Host became %q", got)
		}
	}
}

func TestHandOn(t *testing.T) {
	to := http.Header{"Connection": {"close"}, "Vary": {"Origin"}}
	handOn(to, http.Header{"Vary": {"Accept"}, "Set-Cookie": {"a=1", "b=2"}})
	if diff := cmp.Diff(http.Header{"Connection": {"close"}, "Vary": {"Origin", "Accept"}, "Set-Cookie": {"a=1", "b=2"}}, to); diff != "" {
		t.Error(diff)
	}
}

func TestIsEvents(t *testing.T) {
	for kind, want := range map[string]bool{"text/event-stream": true, "Text/Event-Stream; charset=utf-8": true, "text/event-streams": false, "text/plain": false, "": false} {
		if got := isEvents(http.Header{"Content-Type": {kind}}); got != want {
			t.Errorf("%q: %v", kind, got)
		}
	}
	if isEvents(http.Header{}) {
		t.Error("an answer without a type is none of events")
	}
}
