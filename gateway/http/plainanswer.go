// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// heldBack is how much of a body is held back at most until it is known whether it is all of it, in bytes: then a length is said.
const heldBack = 2 << 10

// plainAnswer is the ResponseWriter of a plain request: it promises what net/http's does in HTTP/1.1, and writes to its connection in the same words, but for a type that nobody has named. It belongs to the request.
type plainAnswer struct {
	conn   *plainConn
	header http.Header // nil: nobody has asked for it
	head   bool        // the request's method is HEAD: the body is only counted

	status   int
	length   int64 // what the header says; -1: nothing
	written  int64
	decided  bool        // the head was written
	settled  http.Header // the header as it was when the status came, if the head was not written then
	held     []byte      // of the body, until the head is written
	chunked  bool
	trailers []string // that were announced
	close    bool     // the connection ends with this answer
}

// Header implements http.ResponseWriter.
func (w *plainAnswer) Header() http.Header {
	if w.header == nil {
		w.header = http.Header{}
	}
	return w.header
}

// adopt makes a header the answer's, if that has none yet.
func (w *plainAnswer) adopt(h http.Header) bool {
	if len(w.header) > 0 {
		return false
	}
	w.header = h
	return true
}

// SetReadDeadline is for who ends the reading of a body, which there is none of.
func (w *plainAnswer) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline bounds the time for what is written.
func (w *plainAnswer) SetWriteDeadline(t time.Time) error {
	w.conn.writeUntil = t
	return w.conn.nc.SetWriteDeadline(t)
}

// WriteHeader begins the answer; those of 1xx are sent at once, and may be several.
func (w *plainAnswer) WriteHeader(status int) {
	switch {
	case status < 100 || status > 999:
		panic(fmt.Sprintf("invalid status of an answer: %d", status))
	case w.status != 0:
		return
	case status < http.StatusOK && status != http.StatusSwitchingProtocols:
		out := w.conn.out
		writeStatus(out, status)
		writeHeader(out, w.header, func(name string) bool { return name == "Content-Length" || name == "Transfer-Encoding" })
		_, _ = out.WriteString("\r\n")
		_ = w.conn.flush() // who left is noticed when there is more to send
		return
	}
	w.status, w.length = status, -1
	if said := w.header["Content-Length"]; len(said) > 0 {
		if n, ok := lengthOf(said[0]); ok {
			w.length = n
		}
	}
	if !bodyAllowed(status) || w.length >= 0 {
		w.decide(w.header, false)
		return
	}
	w.settled = maps.Clone(w.header) // the body's end may tell its length
}

// Write sends a piece of the body, or holds it back for a moment.
func (w *plainAnswer) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if len(p) == 0 {
		return 0, nil
	}
	if !bodyAllowed(w.status) {
		return 0, http.ErrBodyNotAllowed
	}
	w.written += int64(len(p))
	if w.length >= 0 && w.written > w.length {
		return 0, http.ErrContentLength
	}
	if !w.decided {
		if len(w.held)+len(p) <= heldBack {
			w.held = append(w.held, p...)
			return len(p), nil
		}
		w.decide(w.settled, false)
		if err := w.send(w.held); err != nil {
			return 0, err
		}
		w.held = nil
	}
	if err := w.send(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// send writes a piece of the body in the way that the head says.
func (w *plainAnswer) send(p []byte) error {
	if w.head || len(p) == 0 {
		return w.conn.broken
	}
	out := w.conn.out
	if w.chunked {
		var size [16]byte
		_, _ = out.Write(append(strconv.AppendInt(size[:0], int64(len(p)), 16), '\r', '\n')) // the buffer keeps its first error
	}
	_, err := out.Write(p)
	if w.chunked {
		_, err = out.WriteString("\r\n")
	}
	return w.conn.note(err)
}

// FlushError sends what is held back, the head too.
func (w *plainAnswer) FlushError() error {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	w.end(false)
	return w.conn.flush()
}

// end writes what is held back, the last of it or not.
func (w *plainAnswer) end(last bool) {
	if w.decided {
		return
	}
	w.decide(w.settled, last)
	_ = w.send(w.held) // the connection remembers it
	w.held = nil
}

// finish ends the answer, and says whether another may follow it on the connection.
func (w *plainAnswer) finish() bool {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	w.end(true)
	if w.chunked {
		_, _ = w.conn.out.WriteString("0\r\n")
		w.writeTrailers()
		_, _ = w.conn.out.WriteString("\r\n")
	}
	if w.conn.flush() != nil {
		return false
	}
	// After an answer that is shorter than it says, the next one would be taken for its rest.
	short := !w.head && w.length >= 0 && bodyAllowed(w.status) && w.written != w.length
	return !w.close && !short
}

// decide writes the head. last: there is nothing of the body but what is held.
func (w *plainAnswer) decide(h http.Header, last bool) {
	w.decided = true
	allowed := bodyAllowed(w.status)
	for _, v := range h["Trailer"] {
		for name := range strings.SplitSeq(v, ",") {
			if name = http.CanonicalHeaderKey(textproto.TrimString(name)); httpguts.ValidTrailerHeader(name) {
				w.trailers = append(w.trailers, name)
			}
		}
	}
	if last && allowed && w.length < 0 && len(w.trailers) == 0 && (!w.head || len(w.held) > 0) {
		w.length = w.written
	}
	w.chunked = allowed && !w.head && w.length < 0
	connection := h.Get("Connection")
	w.close = connection == "close" || w.conn.leaving.Load()
	out := w.conn.out
	writeStatus(out, w.status)
	writeHeader(out, h, func(name string) bool {
		switch name {
		case "Content-Length", "Transfer-Encoding":
			return true
		case "Content-Type":
			return w.status == http.StatusNotModified
		case "Connection":
			return w.close
		}
		return strings.HasPrefix(name, http.TrailerPrefix)
	})
	if w.close {
		_, _ = out.WriteString("Connection: close\r\n")
	}
	var scratch [64]byte
	if _, ok := h["Date"]; !ok {
		_, _ = out.Write(append(time.Now().UTC().AppendFormat(append(scratch[:0], "Date: "...), http.TimeFormat), '\r', '\n'))
	}
	switch {
	case !allowed:
	case w.length >= 0:
		_, _ = out.Write(append(strconv.AppendInt(append(scratch[:0], "Content-Length: "...), w.length, 10), '\r', '\n'))
	case w.chunked:
		_, _ = out.WriteString("Transfer-Encoding: chunked\r\n")
	}
	_, _ = out.WriteString("\r\n")
}

// writeTrailers writes those that were announced, and those that were not.
func (w *plainAnswer) writeTrailers() {
	for name, values := range w.header {
		if bare, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			writeField(w.conn.out, bare, values)
		}
	}
	for _, name := range w.trailers {
		writeField(w.conn.out, name, w.header[name])
	}
}

// bodyAllowed says whether an answer with a status has a body: RFC 9112, 6.3.
func bodyAllowed(status int) bool {
	return status >= http.StatusOK && status != http.StatusNoContent && status != http.StatusNotModified
}

// lengthOf reads a length as RFC 9110, 8.6, has it: digits only.
func lengthOf(text string) (int64, bool) {
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil
}

func writeStatus(out *bufio.Writer, status int) {
	if status == http.StatusOK {
		_, _ = out.WriteString("HTTP/1.1 200 OK\r\n")
		return
	}
	text := http.StatusText(status)
	if text == "" {
		text = "status code " + strconv.Itoa(status)
	}
	_, _ = out.WriteString("HTTP/1.1 " + strconv.Itoa(status) + " " + text + "\r\n")
}

// writeHeader writes headers, but for some.
func writeHeader(out *bufio.Writer, h http.Header, skip func(name string) bool) {
	for name, values := range h {
		if !skip(name) {
			writeField(out, name, values)
		}
	}
}

// writeField writes the lines of one header, whose values cannot be taken for more than they are.
func writeField(out io.StringWriter, name string, values []string) {
	if !httpguts.ValidHeaderFieldName(name) {
		return
	}
	for _, v := range values {
		if strings.ContainsAny(v, "\r\n") {
			v = lineEnds.Replace(v)
		}
		_, _ = out.WriteString(name) // the buffer keeps its first error
		_, _ = out.WriteString(": ")
		_, _ = out.WriteString(textproto.TrimString(v))
		_, _ = out.WriteString("\r\n")
	}
}
