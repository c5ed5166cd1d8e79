// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// toA sends everything to the service a.
func toA() mesh.Listener {
	return listener("web", "", route("r", nil, with(rule("x", prefix("/")), func(r *mesh.HTTPRule) { r.Backends = []mesh.HTTPBackend{to("a")} })))
}

// onlyOurs is for tests of what the library has no part in.
func onlyOurs(t *testing.T) {
	t.Helper()
	if *library {
		t.Skip("net/http reads all requests")
	}
}

// told are answers as backends write them.
var told = map[string]string{
	"sized":           "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: text/plain\r\nX-A: b\r\nX-A: c\r\n\r\nhello",
	"dated":           "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\nhello",
	"untyped":         "HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\n<!DOCTYPE HTML><html/>",
	"untyped large":   "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("<p>!", 25000),
	"untyped packed":  "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Encoding: gzip\r\n\r\nhello",
	"untyped chunks":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
	"chunks":          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/plain\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	"trailers":        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/plain\r\nTrailer: X-Sum, X-Other\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-Other: 2\r\n\r\n",
	"unasked trailer": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/plain\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
	"to its end":      "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nhello",
	"nothing":         "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
	"no content":      "HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n",
	"not modified":    "HTTP/1.1 304 Not Modified\r\nEtag: \"x\"\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\n",
	"reset":           "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n",
	"early":           "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\nhello",
	"other status":    "HTTP/1.1 299 Whatever\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\nhello",
	"error":           "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\nContent-Type: text/plain\r\nRetry-After: 1\r\n\r\nhello",
	"early hops":      "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\nhello",
	"no status":       "HTTP/1.1 099 What\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\nhello",
	"short":           "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nContent-Type: text/plain\r\n\r\nhello",
	"short chunks":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/plain\r\n\r\n5\r\nhello\r\n5\r\n",
	"events":          "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 5\r\n\r\nhello",
	"none":            "",
	"wrong":           "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
	"cookies":         "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: text/plain\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\nKeep-Alive: timeout=5\r\nServer: me\r\n\r\nhello",
}

// A plain request is answered in the same way, and in the same words to the log, whoever reads it; and the connection stays in step.
func TestPlainAnswersAreTheLibrarys(t *testing.T) {
	var found [2]map[string]string
	for i, by := range []bool{false, true} {
		found[i] = map[string]string{}
		before := *library
		*library = by
		s := newScene(t, Limits{}, listener("web", "", route("r", nil,
			with(rule("x", prefix("/told")), func(r *mesh.HTTPRule) { r.Backends = []mesh.HTTPBackend{to("a")} }),
			with(rule("y", prefix("/problem")), func(r *mesh.HTTPRule) { r.Problem = "a problem" }),
			with(rule("z", prefix("/redirect")), func(r *mesh.HTTPRule) { r.Filters.Redirect = &mesh.HTTPRedirect{Hostname: "y", Status: 302} }),
		)))
		*library = before
		s.backend("a", mesh.AppUnknown, func(w http.ResponseWriter, r *http.Request) {
			nc, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer nc.Close()
			text := told[r.URL.Query().Get("answer")]
			if r.Method == http.MethodHead {
				text, _, _ = strings.Cut(text, "\r\n\r\n")
				text += "\r\n\r\n"
			}
			io.WriteString(nc, text)
		})
		targets := []string{"/problem", "/redirect", "/elsewhere", "/told/%2e%2e/../x"}
		for name := range told {
			targets = append(targets, "/told?answer="+strings.ReplaceAll(name, " ", "+"))
		}
		for _, target := range targets {
			for _, method := range []string{"GET", "HEAD", "OPTIONS"} {
				found[i][method+" "+target] = s.talk(method, target)
			}
		}
	}
	for asked, got := range found[0] {
		if want := found[1][asked]; got != want {
			t.Errorf("%s: answered\n%s\nand by the library\n%s", asked, got, want)
		}
	}
}

var logged = regexp.MustCompile(`"status":\d+,"reason":"[^"]*"|"bytes_sent":\d+`)

// talk asks twice on one connection, the second time as the last, and gives all that was answered and logged.
func (s *scene) talk(method, target string) string {
	s.t.Helper()
	logs := len(s.logs.String())
	nc, err := net.Dial("tcp", s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(nc, "%s %s HTTP/1.1\r\nHost: x\r\n\r\nGET /elsewhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", method, target)
	var out strings.Builder
	in := bufio.NewReader(nc)
	for asked := method; ; {
		r, err := http.ReadResponse(in, &http.Request{Method: asked})
		if err != nil {
			fmt.Fprintf(&out, "then %v\n", err)
			break
		}
		body, err := io.ReadAll(r.Body)
		date := r.Header.Get("Date")
		if _, err := http.ParseTime(date); err != nil && r.StatusCode >= http.StatusOK {
			s.t.Errorf("%s %s: the date is %q", method, target, date)
		}
		if date != "Thu, 01 Jan 1970 00:00:00 GMT" {
			r.Header.Del("Date")
		}
		for i, names := range r.Header["Trailer"] {
			announced := strings.Split(names, ", ")
			slices.Sort(announced)
			r.Header["Trailer"][i] = strings.Join(announced, ", ")
		}
		fmt.Fprintf(&out, "%s %s %v %q %d %v %q %v %v\n", r.Proto, r.Status, r.Close, r.TransferEncoding, r.ContentLength, r.Header, body, err, r.Trailer)
		if r.StatusCode >= http.StatusOK {
			asked = "GET"
		}
	}
	s.until("it is logged", func() bool {
		return strings.Count(s.logs.String()[logs:], `"msg":"request"`) >= strings.Count(out.String(), "HTTP/1.1 ")-strings.Count(out.String(), "HTTP/1.1 103 ")
	})
	fmt.Fprintln(&out, logged.FindAllString(s.logs.String()[logs:], -1))
	return out.String()
}

// open is how many connections we read ourselves.
func (s *scene) open() int {
	s.port.plain.mu.Lock()
	defer s.port.plain.mu.Unlock()
	return len(s.port.plain.of)
}

// asks sends text on a connection and reads an answer.
func (s *scene) asks(nc net.Conn, in *bufio.Reader, text string) (*http.Response, string) {
	s.t.Helper()
	nc.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(nc, text); err != nil {
		s.t.Fatal(err)
	}
	r, err := http.ReadResponse(in, nil)
	if err != nil {
		s.t.Fatalf("%q: %v\n%s", text, err, s.logs)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Fatalf("%q: %v", text, err)
	}
	return r, string(body)
}

func (s *scene) dial() (net.Conn, *bufio.Reader) {
	s.t.Helper()
	nc, err := s.network.dial(s.t.Context(), "tcp", s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { nc.Close() })
	return nc, bufio.NewReader(nc)
}

// A connection is ours while its requests are plain, and the library's from the first one on that is not, of which nothing is lost, wherever it was cut.
func TestPlainConnIsHandedOver(t *testing.T) {
	onlyOurs(t)
	s := newScene(t, Limits{}, toA())
	s.backend("a", mesh.AppUnknown, says("a"))
	const get, post = "GET /1 HTTP/1.1\r\nHost: x\r\n\r\n", "POST /2 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
	nc, in := s.dial()
	for range 3 {
		if r, body := s.asks(nc, in, get); r.StatusCode != http.StatusOK || body != "a" || s.open() != 1 {
			t.Fatalf("answered %d %q; %d connections are ours", r.StatusCode, body, s.open())
		}
	}
	if r, body := s.asks(nc, in, post); r.StatusCode != http.StatusOK || body != "ahello" {
		t.Fatalf("answered %d %q", r.StatusCode, body)
	}
	s.until("the library has it", func() bool { return s.open() == 0 })
	for _, text := range []string{get, post, get} {
		if r, _ := s.asks(nc, in, text); r.StatusCode != http.StatusOK {
			t.Fatalf("%q: answered %d", text, r.StatusCode)
		}
	}
	both := get + get + post + get + post
	for cut := range len(both) {
		nc, in := s.dial()
		nc.(*net.TCPConn).SetNoDelay(true)
		io.WriteString(nc, both[:cut])
		io.WriteString(nc, both[cut:])
		for i, want := range []string{"a", "a", "ahello", "a", "ahello"} {
			if r, body := s.asks(nc, in, ""); r.StatusCode != http.StatusOK || body != want {
				t.Fatalf("cut at %d, answer %d: %d %q, want %q", cut, i, r.StatusCode, body, want)
			}
		}
		nc.Close()
	}
}

// A port that drains answers the requests that run, with a farewell, ends connections that wait for one, and lets nothing go that has come.
func TestPlainConnsDrain(t *testing.T) {
	onlyOurs(t)
	s := newScene(t, Limits{}, toA())
	came, goes := make(chan struct{}), make(chan struct{})
	s.backend("a", mesh.AppUnknown, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(came)
			<-goes
		}
		io.WriteString(w, "done")
	})
	idle, idleIn := s.dial()
	s.asks(idle, idleIn, "GET /1 HTTP/1.1\r\nHost: x\r\n\r\n")
	fresh, _ := s.dial()
	busy, busyIn := s.dial()
	io.WriteString(busy, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
	<-came
	s.until("all are ours", func() bool { return s.open() == 3 })
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		s.drain()
	}()
	for name, nc := range map[string]net.Conn{"idle": idle, "fresh": fresh} {
		nc.SetDeadline(time.Now().Add(patience))
		if n, err := nc.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("the %s connection gives %d bytes and %v, want its end", name, n, err)
		}
	}
	select {
	case <-drained:
		t.Error("the drain does not wait for the request that runs")
	default:
	}
	close(goes)
	if r, body := s.asks(busy, busyIn, ""); r.StatusCode != http.StatusOK || body != "done" || !r.Close {
		t.Errorf("answered %d %q, with a farewell: %v", r.StatusCode, body, r.Close)
	}
	<-drained
	if s.open() != 0 {
		t.Errorf("%d connections are left", s.open())
	}
}

// What a drain finds read and not served is served, or handed over.
func TestPlainConnsLeaveNothingUnserved(t *testing.T) {
	s := newScene(t, Limits{}, toA())
	s.backend("a", mesh.AppUnknown, says("a"))
	for _, text := range []string{"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n", "POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"} {
		client, ours := net.Pipe()
		c := newPlainConn(s.port, ours)
		c.buffer = append(c.buffer[:0], text...)
		c.end = len(text)
		settled := c.leave()
		served := make(chan struct{})
		go func() {
			defer close(served)
			c.serve()
		}()
		r, body := s.asks(client, bufio.NewReader(client), "")
		if r.StatusCode != http.StatusOK || !strings.HasPrefix(body, "a") {
			t.Errorf("%q: answered %d %q", text, r.StatusCode, body)
		}
		<-settled
		client.Close()
		<-served
	}
}

// A request whose client leaves ends, and what a client says meanwhile is its next request.
func TestPlainClientIsWatched(t *testing.T) {
	onlyOurs(t)
	s := newScene(t, Limits{}, toA())
	came, ended := make(chan struct{}), make(chan struct{})
	goes := make(chan struct{})
	s.backend("a", mesh.AppUnknown, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/gone":
			close(came)
			<-r.Context().Done()
			close(ended)
		case "/slow":
			<-goes
		}
		io.WriteString(w, r.URL.Path)
	})
	nc, in := s.dial()
	s.asks(nc, in, "GET /1 HTTP/1.1\r\nHost: x\r\n\r\n")
	io.WriteString(nc, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
	s.until("its client is listened to", func() bool {
		s.port.plain.mu.Lock()
		defer s.port.plain.mu.Unlock()
		for c := range s.port.plain.of {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.watch.over != nil
		}
		return false
	})
	io.WriteString(nc, "GET /2 HTTP/1.1\r\nHo")
	io.WriteString(nc, "st: x\r\n\r\n")
	close(goes)
	for _, want := range []string{"/slow", "/2"} {
		if _, body := s.asks(nc, in, ""); body != want {
			t.Errorf("answered %q, want %q", body, want)
		}
	}
	io.WriteString(nc, "GET /gone HTTP/1.1\r\nHost: x\r\n\r\n")
	<-came // a request whose client leaves before reaches no backend
	nc.Close()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("the request goes on without its client")
	}
	s.until("it is logged", func() bool { return strings.Contains(s.logs.String(), string(ReasonClientGone)) })
}

// A connection that brings nothing ends after the time for a head; one that was used stays for longer, and then ends.
func TestPlainConnsEnd(t *testing.T) { inMemory(t, testPlainConnsEnd) }

func testPlainConnsEnd(t *testing.T, network network) {
	const head, idle = 50 * time.Millisecond, 300 * time.Millisecond
	s := newSceneIn(t, network, Limits{HeaderTime: head, IdleTime: idle}, toA())
	s.backend("a", mesh.AppUnknown, says("a"))
	ends := func(nc net.Conn) time.Duration {
		began := time.Now()
		nc.SetDeadline(began.Add(patience))
		if n, err := nc.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("gives %d bytes and %v, want its end", n, err)
		}
		return time.Since(began)
	}
	silent, _ := s.dial()
	if took := ends(silent); took != head {
		t.Errorf("a connection that brings nothing was kept for %v, want %v", took, head)
	}
	used, in := s.dial()
	s.asks(used, in, "GET /1 HTTP/1.1\r\nHost: x\r\n\r\n")
	if took := ends(used); took < idle || took > idle+idle/8 {
		t.Errorf("a connection that was used was kept for %v, want %v or an eighth longer", took, idle)
	}
}
