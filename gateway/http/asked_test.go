// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/internal/authz"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// looks keeps what policies were shown, by whom it was for.
type looks struct {
	mu   sync.Mutex
	seen map[string]authz.Request
}

func (l *looks) note(who string, r *authz.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen == nil {
		l.seen = map[string]authz.Request{}
	}
	l.seen[who] = *r
}

func (l *looks) of(who string) authz.Request {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen[who]
}

// watch has the policies of a scene look at everything.
func (l *looks) watch(s *scene) {
	s.server.o.Admit = func(_ netip.Addr, _ uint16, r *Asked) error {
		l.note("listener", r.Request())
		return nil
	}
	s.server.o.AdmitTo = func(_ netip.Addr, to mesh.ServiceKey, _ uint16, r *Asked) error {
		l.note(to.Hostname, r.Request())
		return nil
	}
}

// Policies see a request as it came where it came, and as it is sent where it is sent, with all that rules and filters make of it: also a copy.
func TestPoliciesSeeWhatIsSent(t *testing.T) {
	set := func(name, value string) mesh.HeaderChange {
		return mesh.HeaderChange{Set: []mesh.NameValue{{Name: name, Value: value}}}
	}
	copied := to("copies")
	copied.Filters.Request = mesh.HeaderChange{Add: []mesh.NameValue{{Name: "X-Kind", Value: "copy"}}}
	backend := to("a")
	backend.Filters.Request = mesh.HeaderChange{Add: []mesh.NameValue{{Name: "X-Kind", Value: "backend"}}, Remove: []string{"X-Gone"}}
	s := newScene(t, Limits{}, listener("web", "", route("r", nil, with(rule("x", prefix("/public")), func(r *mesh.HTTPRule) {
		r.Backends = []mesh.HTTPBackend{backend}
		r.Filters = mesh.HTTPFilters{
			Request: set("X-Team", "of the rule"), Mirrors: []mesh.HTTPMirror{{Backend: copied, Numerator: 1, Denominator: 1}},
			Rewrite: &mesh.HTTPRewrite{Hostname: "Inner.example", Path: mesh.PathChange{Kind: mesh.PathPrefixReplaced, Value: "/admin"}},
		}
	}))))
	var l looks
	l.watch(s)
	got := make(chan *http.Request, 1)
	s.backend("a", mesh.AppUnknown, func(_ http.ResponseWriter, r *http.Request) { got <- r })
	s.backend("copies", mesh.AppUnknown, func(http.ResponseWriter, *http.Request) {})
	for name, headers := range map[string][]string{"plain": nil, "upgrade": {"Connection", "Upgrade", "Upgrade", "echo"}} {
		s.ask(s.client(), "GET", "http://outer.example/public/%78", "", append(headers, "X-Team", "client", "X-Kind", "1", "X-Kind", "2", "X-Kind", "3", "X-Gone", "here")...)
		came, sent, copied, at := l.of("listener"), l.of(key("a").Hostname), l.of(key("copies").Hostname), <-got
		if came.Authority != "outer.example" || came.Path != "/public/x" || came.Header["X-Team"][0] != "client" || came.Header["X-Gone"] == nil {
			t.Errorf("%s: as it came it is %+v", name, came)
		}
		if sent.Authority != "Inner.example" || sent.Path != "/admin/x" || sent.Header["X-Team"][0] != "of the rule" || sent.Header["X-Gone"] != nil {
			t.Errorf("%s: as it is sent it is %+v", name, sent)
		}
		if at.URL.EscapedPath() != sent.Path || at.Host != "Inner.example" {
			t.Errorf("%s: sent to %s%s", name, at.Host, at.URL)
		}
		for name, values := range sent.Header {
			if diff := cmp.Diff(values, at.Header[name]); diff != "" && name != "User-Agent" {
				t.Errorf("%s: header %s: %s", name, name, diff)
			}
		}
		if want := []string{"1", "2", "3", "backend", "copy"}; !cmp.Equal(copied.Header["X-Kind"], want) || copied.Path != "/admin/x" {
			t.Errorf("%s: the copy is %+v", name, copied)
		}
	}
}

// What a client says that nobody is sent is not shown to policies: what it lists in Connection, what is about its connection, and what a stranger says of itself.
func TestPoliciesSeeNothingThatIsNotSent(t *testing.T) {
	s := newScene(t, Limits{}, listener("web", "", route("r", nil, with(rule("x", prefix("/")), func(r *mesh.HTTPRule) { r.Backends = []mesh.HTTPBackend{to("a")} }))))
	var l looks
	l.watch(s)
	got := make(chan http.Header, 1)
	s.backend("a", mesh.AppUnknown, func(_ http.ResponseWriter, r *http.Request) { got <- r.Header })
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET http://real.example/a HTTP/1.1\r\nHost: other.example\r\nConnection: x-listed\r\nX-Listed: 1\r\nX-Forwarded-Client-Cert: me\r\nX_Forwarded_Client_Cert: me\r\n"+
		"Client-Cert: me\r\nX-Forwarded-For: 10.0.0.1\r\nX_forwarded_for: 10.0.0.1\r\nForwarded: for=10.0.0.1\r\nTe: gzip\r\nX-Kept:  yes \r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	want := map[string][]string{"X-Kept": {"yes"}, "X-Forwarded-For": {"127.0.0.1"}, "X-Forwarded-Host": {"real.example"}, "X-Forwarded-Proto": {"http"}}
	came, sent := l.of("listener"), l.of(key("a").Hostname)
	for name, headers := range map[string]map[string][]string{"as it came": came.Header, "as it is sent": sent.Header, "at the backend": <-got} {
		if name != "as it came" {
			want[headerVia] = s.server.via
		} else {
			delete(want, headerVia)
		}
		if diff := cmp.Diff(want, headers); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if came.Authority != "real.example" || came.Path != "/a" {
		t.Errorf("%+v", came)
	}
}

// White space around a value is taken away in HTTP/2 too, before anybody compares it.
func TestValuesAreTrimmed(t *testing.T) {
	s := newScene(t, Limits{}, listener("web", "", route("r", nil, with(rule("x", prefix("/")), func(r *mesh.HTTPRule) { r.Backends = []mesh.HTTPBackend{to("a")} }))))
	var l looks
	l.watch(s)
	s.backend("a", mesh.AppHTTP2, says("a"))
	client := s.client()
	client.Transport.(*http.Transport).Protocols = new(http.Protocols)
	client.Transport.(*http.Transport).Protocols.SetUnencryptedHTTP2(true)
	response, _ := s.ask(client, "GET", "http://a.example/", "", "X-Seen", " red\t", "X-Seen", "blue ")
	want := []string{"red", "blue"}
	for who, got := range map[string][]string{"policies": l.of("listener").Header["X-Seen"], "policies of the backend": l.of(key("a").Hostname).Header["X-Seen"], "the backend": response.Header["X-Seen"]} {
		if response.StatusCode != http.StatusOK || !cmp.Equal(got, want) {
			t.Errorf("%s: %d %q", who, response.StatusCode, got)
		}
	}
}

// A policy that is new looks at requests that have run for long as they came, and not as rules have made them meanwhile. Under the race detector this also says that nobody changes what it looks at.
func TestPoliciesLookLater(t *testing.T) {
	s := newScene(t, Limits{}, listener("web", "", route("r", nil, with(rule("x", prefix("/")), func(r *mesh.HTTPRule) {
		r.Backends = []mesh.HTTPBackend{to("a")}
		r.Filters.Request = mesh.HeaderChange{Set: []mesh.NameValue{{Name: "X-Team", Value: "rule"}}, Add: []mesh.NameValue{{Name: "X-More", Value: "rule"}}}
	}))))
	arrived := make(chan struct{}, 4)
	s.backend("a", mesh.AppUnknown, func(_ http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-r.Context().Done()
	})
	type result struct {
		status int
		reason string
	}
	results := make(chan result, 4)
	client := s.client()
	for range cap(results) {
		go func() {
			r, err := http.NewRequest(http.MethodGet, "http://a.example/x", nil)
			if err != nil {
				t.Error(err)
				return
			}
			r.Header["X-Team"], r.Header["X-More"] = []string{"client"}, []string{"1", "2", "3"}
			response, err := client.Do(r)
			if err != nil {
				t.Error(err)
				results <- result{}
				return
			}
			response.Body.Close()
			results <- result{response.StatusCode, response.Header.Get(headerReason)}
		}()
		<-arrived
	}
	var l looks
	s.server.o.Admit = func(_ netip.Addr, _ uint16, r *Asked) error {
		l.note("listener", r.Request())
		return nil
	}
	s.server.o.AdmitTo = func(_ netip.Addr, _ mesh.ServiceKey, _ uint16, r *Asked) error {
		l.note("backend", r.Request())
		return errors.New("not any more")
	}
	s.server.Rejudge()
	for range cap(results) {
		if got := <-results; got.status != 403 || got.reason != string(ReasonRevoked) {
			t.Errorf("%+v", got)
		}
	}
	for who, want := range map[string]string{"listener": "client 1,2,3", "backend": "rule 1,2,3,rule"} {
		h := l.of(who).Header
		if got := strings.Join(h["X-Team"], ",") + " " + strings.Join(h["X-More"], ","); got != want {
			t.Errorf("the %s's policies see %q, want %q", who, got, want)
		}
	}
}
