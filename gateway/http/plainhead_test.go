// SPDX-License-Identifier: Apache-2.0

package http

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http/httpguts"
)

// Of requests the plain ones are ours; the library judges the others, each for a reason of its own.
var (
	plainTexts = []string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /a/%2e%2e/b?c=d%20e&f;g? HTTP/1.1\r\nHost: x.example.com:8080\r\nUser-Agent: a\r\nAccept: */*\r\naccept: text/plain\r\nx-a:\t b \t\r\nX-Empty:\r\n\r\nGET",
		"HEAD //x/?? HTTP/1.1\r\nHost: [::1]:80\r\nConnection: Keep-Alive\r\nCookie: a=b; c=d\r\n\r\n",
		"OPTIONS /? HTTP/1.1\r\nhOST: x\r\nAccess-Control-Request-Method: GET\r\n\r\n",
		"DELETE /a/../b HTTP/1.1\r\nHost: x\r\nGrpc-Timeout: 1S\r\nte: trailers\r\n\r\n",
	}
	otherTexts = []string{
		"", "\r\n\r\n", "GET", "GET / HTTP/1.1\r\nHost: x\r\n", "\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / HTTP/1.0\r\nHost: x\r\n\r\n", "GET / HTTP/1.2\r\nHost: x\r\n\r\n", "GET / http/1.1\r\nHost: x\r\n\r\n", "GET /\r\nHost: x\r\n\r\n", "get / HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", "GET /  HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.1 \r\nHost: x\r\n\r\n", "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", "GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET http://x/ HTTP/1.1\r\nHost: y\r\n\r\n", "GET * HTTP/1.1\r\nHost: x\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", "CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n", "GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", "GET /é HTTP/1.1\r\nHost: x\r\n\r\n", "GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\n\r\n", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na",
		"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nTrailer: a\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, x-a\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nConnection: \r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nPragma: no-cache\r\n\r\n",
		"GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost:\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", "GET / HTTP/1.1\r\nHost: x/y\r\n\r\n", "GET / HTTP/1.1\r\nHost: x y\r\n\r\n",
		"GET / HTTP/1.1\nHost: x\n\n", "GET / HTTP/1.1\r\nHost: x\nX-A: b\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\rX-A: b\r\n\r\n", "GET / HTTP/1.1\r\nHost:\n\r x\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\n\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nX-A: b\x00\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nX-A: \xe9\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nX-A: \x7f\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", "GET / HTTP/1.1\r\n Host: x\r\n\r\n", "GET / HTTP/1.1\r\nHost : x\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nX A: b\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nnothing\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A: b\r\n", plainHeaders) + "\r\n",
	}
)

func TestPlainRequest(t *testing.T) {
	for _, text := range plainTexts {
		if r, _ := plainRequest([]byte(text), new(http.Request)); r == nil {
			t.Errorf("%q is not taken", text)
		}
	}
	for _, text := range otherTexts {
		if r, _ := plainRequest([]byte(text), new(http.Request)); r != nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// FuzzPlainRequest: what we take for a request the library takes for the same one, with the same end, and would serve.
func FuzzPlainRequest(f *testing.F) {
	for _, text := range slices.Concat(plainTexts, otherTexts) {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, before []byte) {
		came := bytes.Clone(before)
		got, size := plainRequest(came, new(http.Request))
		if got == nil {
			return
		}
		clear(came) // nothing of it may still be looked at, as the buffer is used again
		from := bytes.NewReader(before)
		in := bufio.NewReader(from)
		want, err := http.ReadRequest(in)
		if err != nil {
			t.Fatalf("%q is taken, and not by the library: %v", before, err)
		}
		if ends := len(before) - from.Len() - in.Buffered(); ends != size {
			t.Fatalf("%q ends after %d bytes, for the library after %d", before, size, ends)
		}
		if !httpguts.ValidHostHeader(got.Host) || got.Host == "" {
			t.Fatalf("%q has the host %q", before, got.Host)
		}
		for name, values := range got.Header {
			for _, v := range values {
				if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(v) {
					t.Fatalf("%q has the header %q: %q", before, name, v)
				}
			}
		}
		if want.Body != http.NoBody || got.Body != http.NoBody {
			t.Fatalf("%q has a body", before)
		}
		if g, w := fmt.Sprintf("%#v", seen(got)), fmt.Sprintf("%#v", seen(want)); g != w {
			t.Fatalf("%q is\n%s\nand for the library\n%s", before, g, w)
		}
		if !reflect.DeepEqual(got.URL, want.URL) || !reflect.DeepEqual(got.Header, want.Header) {
			t.Fatalf("%q has %#v and %q, for the library %#v and %q", before, got.URL, got.Header, want.URL, want.Header)
		}
	})
}

// seen is what there is to a request, but for what is behind pointers.
func seen(r *http.Request) []any {
	return []any{r.Method, r.RequestURI, r.Proto, r.ProtoMajor, r.ProtoMinor, r.Host, r.ContentLength, len(r.TransferEncoding), len(r.Trailer), r.Close, r.RemoteAddr, r.Pattern}
}
