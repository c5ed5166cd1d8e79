// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"net/netip"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestGoneNamesOnlyWhatWasAsked(t *testing.T) {
	b := newBalancer(time.Now)
	here := []candidate{{uid: "a", dial: netip.AddrPort{}}, {uid: "b"}}
	a, c := endpointID("west", "a"), endpointID("west", "c")
	for value, want := range map[string]string{
		"": "", a: "", c: c, a + "," + c: c, "nonsense": "", "<script>aaaaaaaa": "", c + ",nonsense," + a: c, "AAAAAAAAAAAAAAAAA": "",
	} {
		if got := b.gone("west", here, 0, parseAvoid(value)); got != want {
			t.Errorf("of %q are gone %q, want %q", value, got, want)
		}
	}
	here[0].rank = 1
	if got, want := b.gone("west", here, 1, parseAvoid(a+","+endpointID("west", "b"))), endpointID("west", "b"); got != want {
		t.Errorf("of a near one and a far one are gone %q, want %q", got, want)
	}
	if got := b.gone("west", here, 0, parseAvoid(a)); got != "" {
		t.Errorf("for who got a far one a near one is gone: %q", got)
	}
}

// A client hears which of the endpoints that it knows are not ready any more.
func TestClientsHearOfEndpointsThatAreGone(t *testing.T) {
	s := newScene(t, nil)
	s.configure(nil)
	s.add(s.pod(1), s.pod(2))
	outer := s.outer(15008, clientID)
	ask := func(avoid string) hbone.Header {
		t.Helper()
		stream, header, err := outer.Open(t.Context(), authority, hbone.Header{{Name: headerAvoid, Value: avoid}})
		if err != nil {
			t.Fatal(err)
		}
		stream.Close()
		return header
	}
	first := ask("").Get(headerEndpoint)
	answer := ask(first)
	second := answer.Get(headerEndpoint)
	if answer.Get(headerGone) != "" || second == first {
		t.Errorf("while both are there: %v", answer)
	}
	for _, n := range []int{1, 2} {
		w := podWorkload(n, func(w *mesh.Workload) { w.Unhealthy = true })
		if endpointID("west", w.UID) == first {
			s.add(w)
		}
	}
	if answer := ask(first + "," + second); answer.Get(headerGone) != first || answer.Get(headerEndpoint) != second {
		t.Errorf("after %s was not ready: %v", first, answer)
	}
}
