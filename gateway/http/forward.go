// SPDX-License-Identifier: Apache-2.0

package http

import (
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/textproto"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// forward carries a request to a backend, and its answer back to the client, by the rules for proxies of RFC 9110, 7.6. It does what httputil.ReverseProxy does, which has
// those that ask for another protocol (see serve), without its copies of what nobody looks at again: the values of the request's headers are the request's own here, and the headers of the
// answer are handed on as they came.
func (s *Server) forward(t *trip, w *answer, out *http.Request) {
	if out.ContentLength == 0 {
		out.Body = nil
	}
	if out.Body != nil {
		defer out.Body.Close() // who reads it may outlive the attempt, and must not outlive us
	}
	u := *out.URL // the access log tells the client's
	out.URL, out.Close = &u, false
	trailers := httpguts.HeaderValuesContainsToken(out.Header["Te"], "trailers")
	out.Header = maps.Clone(out.Header) // policies may look at what came for as long as the request runs
	settle(out, t.visit != nil)
	settleTrailers(out, t.visit != nil)
	if trailers {
		out.Header["Te"] = []string{"trailers"}
	}
	s.filterRequest(t, out)
	s.sign(out, t.asked.came)
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header["User-Agent"] = []string{""} // or the library would say its own
	}
	early := &t.hands
	if early.w = w; out.ProtoAtLeast(1, 1) { // who speaks HTTP/1.0 would take one of 1xx for the answer
		t.early = early
	}
	response, err := roundTripper{s}.RoundTrip(out)
	early.end()
	if err == nil && response.StatusCode == http.StatusSwitchingProtocols {
		response.Body.Close()
		err = errUnaskedSwitch
	}
	if err != nil {
		s.failed(w, out, err)
		return
	}
	withoutHops(response.Header)
	s.changeAnswer(t, response.Header)
	if plain, ok := w.ResponseWriter.(*plainAnswer); !ok || !plain.adopt(response.Header) {
		handOn(w.Header(), response.Header)
	}
	s.answerWith(w, response)
}

// errUnaskedSwitch means that a backend takes a connection for another protocol's that was not asked to.
var errUnaskedSwitch = errors.New("the endpoint switches protocols, which nobody asked for")

// answerWith sends an answer whose headers were handed on.
func (s *Server) answerWith(w *answer, response *http.Response) {
	announced := len(response.Trailer)
	if announced > 0 {
		names := make([]string, 0, announced)
		for name := range response.Trailer {
			names = append(names, name)
		}
		w.Header().Add("Trailer", strings.Join(names, ", "))
	}
	w.WriteHeader(response.StatusCode)
	if err := s.copyBody(w, response); err != nil {
		response.Body.Close()
		panic(http.ErrAbortHandler) // the client must not take what it has for the whole
	}
	response.Body.Close() // trailers are there from now on
	if len(response.Trailer) == 0 {
		return
	}
	_ = w.FlushError() // or a short answer would get a length, and none can have trailers then; who left gets nothing
	if len(response.Trailer) == announced {
		handOn(w.Header(), response.Trailer)
		return
	}
	for name, values := range response.Trailer {
		for _, v := range values {
			w.Header().Add(http.TrailerPrefix+name, v)
		}
	}
}

// copyBody sends an answer's body. One whose end is not known may be a conversation, or events: what comes of it is sent at once.
func (s *Server) copyBody(w *answer, response *http.Response) error {
	if response.Body == http.NoBody {
		return nil
	}
	live := response.ContentLength == -1 || isEvents(response.Header)
	if live {
		_ = w.FlushError() // the headers; who left is noticed when there is more to send
	}
	buffer := s.buffers.Get()
	defer s.buffers.Put(buffer)
	for {
		n, err := response.Body.Read(buffer)
		if n > 0 {
			if _, err := w.Write(buffer[:n]); err != nil {
				return err
			}
			if live {
				_ = w.FlushError()
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// isEvents says whether an answer is of server-sent events.
func isEvents(h http.Header) bool {
	const events = "text/event-stream"
	for _, v := range h["Content-Type"] {
		kind, _, _ := strings.Cut(v, ";")
		return strings.EqualFold(strings.TrimSpace(kind), events)
	}
	return false
}

// withoutHops takes out what is about one connection: RFC 9110, 7.6.1, and some that are older.
func withoutHops(h http.Header) {
	for _, v := range h["Connection"] {
		for name := range strings.SplitSeq(v, ",") {
			if name = textproto.TrimString(name); name != "" {
				h.Del(name)
			}
		}
	}
	for name := range h {
		switch name {
		case "Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade":
			delete(h, name)
		}
	}
}

// setForwarded says who the client is. What it says of itself is a stranger's word.
func setForwarded(r *http.Request) {
	delete(r.Header, "Forwarded")
	values := [3]string{"", r.Host, "http"}
	if r.TLS != nil {
		values[2] = "https"
	}
	if client, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		values[0] = client
		r.Header["X-Forwarded-For"] = values[0:1:1]
	} else {
		delete(r.Header, "X-Forwarded-For")
	}
	r.Header["X-Forwarded-Host"], r.Header["X-Forwarded-Proto"] = values[1:2:2], values[2:3:3]
}

// handOn adds headers to others. Values are not copied: they have one reader from now on.
func handOn(to, from http.Header) {
	for name, values := range from {
		if there, ok := to[name]; ok {
			values = append(there, values...)
		}
		to[name] = values
	}
}
