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
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Requests that run end when policies turn against them: one that waits is told so, one that is being answered is cut, and so is an upgraded connection. Others go on.
func TestRejudge(t *testing.T) {
	s := newScene(t, Limits{}, listener("web", "", route("r", nil,
		with(rule("x", prefix("/")), func(r *mesh.HTTPRule) { r.Backends = []mesh.HTTPBackend{to("a")} }),
		with(rule("y", prefix("/other")), func(r *mesh.HTTPRule) { r.Backends = []mesh.HTTPBackend{to("b")} }))))
	var closed atomic.Bool
	s.server.o.AdmitTo = func(_ netip.Addr, service mesh.ServiceKey, _ uint16, _ *Asked) error {
		if closed.Load() && service == key("a") {
			return errors.New("closed")
		}
		return nil
	}
	var begun atomic.Int32
	s.backend("a", mesh.AppUnknown, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/up":
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			rw.Flush()
			begun.Add(1)
			io.Copy(conn, rw)
			return
		case "/half":
			w.Write([]byte("half"))
			w.(http.Flusher).Flush()
		}
		begun.Add(1)
		<-r.Context().Done()
	})
	release := make(chan struct{})
	s.backend("b", mesh.AppUnknown, func(w http.ResponseWriter, r *http.Request) {
		begun.Add(1)
		<-release
	})
	client := s.client()
	type result struct {
		status int
		err    error
	}
	var begunAtClient atomic.Int64 // answers
	ask := func(path string) chan result {
		out := make(chan result, 1)
		go func() {
			response, err := client.Get("http://x" + path)
			begunAtClient.Add(1)
			if err != nil {
				out <- result{0, err}
				return
			}
			_, err = io.ReadAll(response.Body)
			response.Body.Close()
			out <- result{response.StatusCode, err}
		}()
		return out
	}
	waits, half, other := ask("/waits"), ask("/half"), ask("/other")
	up, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	up.SetDeadline(time.Now().Add(patience))
	io.WriteString(up, "GET /up HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	from := bufio.NewReader(up)
	if response, err := http.ReadResponse(from, nil); err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("not upgraded: %v", err)
	}
	s.until("all run, and half an answer is there", func() bool { return begun.Load() == 4 && begunAtClient.Load() == 1 })
	s.server.Rejudge()
	s.server.judges.Wait()
	if n := len(s.server.standing.all()); n != 4 {
		t.Errorf("%d requests run after nothing changed, want 4", n)
	}
	closed.Store(true)
	s.server.Rejudge()
	if r := <-waits; r.status != http.StatusForbidden {
		t.Errorf("one that waits is answered %d, %v", r.status, r.err)
	}
	if r := <-half; r.err == nil {
		t.Error("half an answer was taken for a whole one")
	}
	if _, err := from.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("the upgraded connection: %v", err)
	}
	close(release)
	if r := <-other; r.status != http.StatusOK {
		t.Errorf("another service's is answered %d, %v", r.status, r.err)
	}
	s.until("none runs", func() bool { return len(s.server.standing.all()) == 0 })
	s.until("each is logged", func() bool { return strings.Count(s.logs.String(), `"reason":"revoked"`) == 3 })
}

// A request that is let in while policies change is judged by the new ones, too.
func TestRejudgeMeanwhile(t *testing.T) {
	s := newScene(t, Limits{}, listener("web", "", route("r", nil, with(rule("x", prefix("/")), func(r *mesh.HTTPRule) { r.Backends = []mesh.HTTPBackend{to("a")} }))))
	s.backend("a", mesh.AppUnknown, says("a"))
	var asked atomic.Int32
	s.server.o.Admit = func(netip.Addr, uint16, *Asked) error {
		if asked.Add(1) > 1 {
			return errors.New("closed")
		}
		s.server.Rejudge() // after this was asked, and before the request is known to run
		return nil
	}
	if response, _ := s.ask(s.client(), "GET", "http://x/", ""); response.StatusCode != http.StatusForbidden {
		t.Errorf("answered %d", response.StatusCode)
	}
}

// Whoever takes in configuration is not held up by requests that take long to judge, and however often it changes meanwhile, all are judged by what held last.
func TestRejudgeDoesNotWait(t *testing.T) {
	s := newScene(t, Limits{}, listener("web", "", route("r", nil, with(rule("x", prefix("/")), func(r *mesh.HTTPRule) { r.Backends = []mesh.HTTPBackend{to("a")} }))))
	var begun, judged atomic.Int32
	var slow, closed atomic.Bool
	held := make(chan struct{})
	s.server.o.AdmitTo = func(netip.Addr, mesh.ServiceKey, uint16, *Asked) error {
		verdict := closed.Load()
		if slow.Load() {
			judged.Add(1)
			<-held
		}
		if verdict {
			return errors.New("closed")
		}
		return nil
	}
	s.backend("a", mesh.AppUnknown, func(_ http.ResponseWriter, r *http.Request) {
		begun.Add(1)
		<-r.Context().Done()
	})
	status := make(chan int, 1)
	go func() {
		response, err := s.client().Get("http://x/")
		if err != nil {
			status <- 0
			return
		}
		response.Body.Close()
		status <- response.StatusCode
	}()
	s.until("it runs", func() bool { return begun.Load() == 1 })
	slow.Store(true)
	told := make(chan struct{})
	go func() {
		defer close(told)
		s.server.Rejudge()
		s.until("it is being judged", func() bool { return judged.Load() == 1 })
		closed.Store(true)
		for range 1000 {
			s.server.Rejudge()
		}
	}()
	select {
	case <-told:
	case <-time.After(patience):
		t.Error("the one who told of a change waits for judgements")
	}
	close(held)
	if got := <-status; got != http.StatusForbidden {
		t.Errorf("answered %d", got)
	}
	s.server.judges.Wait()
	if n := judged.Load(); n > 2 {
		t.Errorf("judged %d times after 1001 changes", n)
	}
}
