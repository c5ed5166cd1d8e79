// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/textproto"
	"reflect"
	"testing"
)

// inPieces is a connection of which so much comes at a time.
type inPieces struct {
	net.Conn
	rest []byte
	size int
}

func (c *inPieces) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), c.size)], c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// headSeeds are answers of endpoints: they say of their connection what there is to say, in all the ways that the library reads.
var headSeeds = []string{
	"HTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nContent-Length: 2\r\n\r\nok",
	"HTTP/1.1 200 OK\r\nConnection:\r\n close,\r\n\tX-Hop\r\nX-Hop: 1\r\n\r\nConnection: close\r\n\r\n",
	"HTTP/1.1 200 OK\nCONNECTION: x-hop\nconnection: Close\nX-Hop: 1\nTransfer-Encoding: chunked\n\n2\nok\n0\n\n",
	"HTTP/1.0 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\r\nok", "HTTP/1.0 200 OK\r\nConnection: keep-alive, close\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 103 Early Hints\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\n\r\nHTTP/1.1  100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\n\r\n",
	"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 OK\r\nConnection : close\r\n\r\n", "HTTP/1.1 200 OK\r\n Connection: close\r\n\r\n",
	"HTTP/1.1 200 OK\r\nX-A: b\r\n \r\n Connection: close\r\nConnection: X-Hop\r\n\r\n", "HTTP/1.1 200 OK\r\r\nConnection: close\r\n\r\n", "\r\nHTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
	"HTTP/1.1 200\r\nConnection: \r\nConnection: ,close\r\nContent-Length: 1\r\n\r\n", "HTTP/1.1 204 No Content\r\nConnection: enclosed\r\n\r\n", "HTTP/1.1 200 OK\r\nConnection: close", "", "\n",
}

// said is what the head of an answer that begins here says of its connection, read without a look for anything else.
func said(t *testing.T, from *bufio.Reader) []string {
	t.Helper()
	r := textproto.NewReader(from)
	if _, err := r.ReadLine(); err != nil {
		t.Fatal(err)
	}
	h, err := r.ReadMIMEHeader()
	if err != nil {
		t.Fatal(err)
	}
	return h["Connection"]
}

// FuzzReadAnswer: the head of an answer is what the library takes it for, and has also all that it says of its connection, in whatever pieces it comes; what follows it is not touched.
func FuzzReadAnswer(f *testing.F) {
	for i, seed := range headSeeds {
		f.Add([]byte(seed), uint16(1000*(i%2)+i))
	}
	f.Fuzz(func(t *testing.T, text []byte, size uint16) {
		if len(text) == 0 || len(text) > 4*directBuffer {
			return
		}
		request := &http.Request{Method: http.MethodGet}
		c := newDirectConn(&inPieces{rest: text, size: int(size) + 1}, place{}, &idleConns{})
		c.left = answerHeaderBytes
		if _, err := c.r.Peek(1); err != nil {
			t.Fatal(err)
		}
		got, err := c.readAnswer(request)
		want, wantErr := http.ReadResponse(bufio.NewReader(bytes.NewReader(text)), request)
		if fmt.Sprint(err) != fmt.Sprint(wantErr) {
			t.Fatalf("%q: %v, for the library %v", text, err, wantErr)
		}
		if c.taping || c.tape != nil {
			t.Fatalf("%q: what comes next is kept", text)
		}
		if err != nil {
			return
		}
		header := maps.Clone(want.Header)
		if list := said(t, bufio.NewReader(bytes.NewReader(text))); len(list) > 0 {
			header["Connection"] = list
		}
		if !reflect.DeepEqual(got.Header, header) {
			t.Fatalf("%q has the header %q, want %q", text, got.Header, header)
		}
		if g, w := fmt.Sprint(answered(got)), fmt.Sprint(answered(want)); g != w {
			t.Fatalf("%q is %s, for the library %s", text, g, w)
		}
	})
}

// answered is what there is to an answer, but for its header.
func answered(r *http.Response) []any {
	body, err := io.ReadAll(r.Body)
	return []any{r.Status, r.StatusCode, r.Proto, r.ContentLength, r.TransferEncoding, r.Close, r.Trailer, string(body), err}
}

// FuzzTape: of all the answers that the library reads of a connection for one request, each has what it says of its connection, in whatever pieces they come.
func FuzzTape(f *testing.F) {
	for i, seed := range headSeeds {
		f.Add([]byte(seed), uint16(1000*(i%2)+i))
	}
	f.Fuzz(func(t *testing.T, text []byte, size uint16) {
		conn := &endingConn{Conn: &inPieces{rest: text, size: int(size) + 1}}
		heads := &tape{on: conn}
		conn.tape.Store(heads)
		from, again := bufio.NewReader(conn), bufio.NewReader(bytes.NewReader(text))
		for more := true; more; {
			r, err := http.ReadResponse(from, &http.Request{Method: http.MethodGet})
			if err != nil {
				break
			}
			more = r.StatusCode/100 == 1 && r.StatusCode != http.StatusSwitchingProtocols // those have no body
			heads.next(r.Header)
			if list := said(t, again); !reflect.DeepEqual(r.Header["Connection"], list) {
				t.Fatalf("%q: an answer of %d says %q of its connection, want %q", text, r.StatusCode, r.Header["Connection"], list)
			}
		}
		heads.end()
		if heads.came != nil || conn.tape.Load() != nil {
			t.Fatalf("%q: %q is kept when all is over", text, heads.came)
		}
	})
}
