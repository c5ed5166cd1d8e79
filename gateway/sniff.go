// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"errors"
	"os"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
)

const (
	// sniffTime is how long a client may keep what it speaks to itself; after that it is taken for one that listens first, as those of some databases do. What
	// speaks HTTP begins at once, so this is the time of a slow network, not of a slow client.
	sniffTime = 300 * time.Millisecond
	// sniffBytes is how much of a stream is looked at: an HTTP/1 method, of which none that is registered has more than 17 letters, and the preface of HTTP/2, of 24.
	sniffBytes = 32
	// sniffLines is how much of empty lines is passed over before a request, in bytes: two, where a server should bear one (RFC 9112, 2.2).
	sniffLines = 4
)

// http2Preface begins every connection of HTTP/2 (RFC 9113, 3.4).
const http2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// sniffer is a stream whose first bytes were looked at, and are read again.
type sniffer struct {
	*hbone.Stream
	first []byte
	err   error // what came after them
}

func newSniffer(stream *hbone.Stream) *sniffer { return &sniffer{Stream: stream} }

// isHTTP reads until it is plain whether there are requests of HTTP in the stream.
func (s *sniffer) isHTTP() bool {
	_ = s.SetReadDeadline(time.Now().Add(sniffTime)) // streams have deadlines
	defer s.SetReadDeadline(time.Time{})             //nolint:errcheck // as above
	buffer := make([]byte, sniffBytes)
	for n := 0; ; {
		is, plain := beginsHTTP(s.first)
		if plain || n == len(buffer) {
			return s.sure(is && plain)
		}
		m, err := s.Stream.Read(buffer[n:])
		n += m
		s.first = buffer[:n]
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				s.err = err
			}
			is, plain = beginsHTTP(s.first)
			return s.sure(is && plain)
		}
	}
}

// sure drops empty lines before a request: the library takes none.
func (s *sniffer) sure(isHTTP bool) bool {
	if isHTTP {
		s.first = afterLines(s.first)
	}
	return isHTTP
}

// afterLines is what comes after empty lines.
func afterLines(first []byte) []byte {
	n := 0
	for n < min(len(first), sniffLines) && (first[n] == '\r' || first[n] == '\n') {
		n++
	}
	return first[n:]
}

// beginsHTTP says whether a stream that begins like this is one of HTTP, if that is plain already.
func beginsHTTP(first []byte) (is, plain bool) {
	if len(first) >= len(http2Preface) {
		if string(first[:len(http2Preface)]) == http2Preface {
			return true, true
		}
	} else if bytes.HasPrefix([]byte(http2Preface), first) {
		return false, false
	}
	first = afterLines(first)
	for i, c := range first {
		if c == ' ' {
			if i == 0 {
				return false, true
			}
			if i+1 == len(first) {
				return false, false
			}
			// A path, "*", or a whole URL.
			return first[i+1] == '/' || first[i+1] == '*' || first[i+1]|0x20 == 'h', true
		}
		if !methodLetter(c) {
			return false, true
		}
	}
	return false, false
}

// methodLetter says whether a method of HTTP that anybody uses may hold a byte.
func methodLetter(c byte) bool { return c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c == '-' }

// Read gives the first bytes again, and then the others.
func (s *sniffer) Read(p []byte) (int, error) {
	if len(s.first) > 0 {
		n := copy(p, s.first)
		s.first = s.first[n:]
		return n, nil
	}
	if s.err != nil {
		return 0, s.err
	}
	return s.Stream.Read(p)
}
