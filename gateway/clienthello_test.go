// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/isthmus-mesh/isthmus/internal/stranger"
)

// helloOf is what Go's client begins with.
func helloOf(t testing.TB, name string) []byte {
	t.Helper()
	var sent bytes.Buffer
	c := tls.Client(&oneWay{to: &sent}, &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err := c.Handshake(); err == nil {
		t.Fatal("a handshake with nobody")
	}
	return sent.Bytes()
}

// oneWay is a connection to somebody who says nothing.
type oneWay struct {
	net.Conn
	from io.Reader
	to   io.Writer
}

func (c *oneWay) Read(p []byte) (int, error) {
	if c.from == nil {
		return 0, io.EOF
	}
	return c.from.Read(p)
}

func (c *oneWay) Write(p []byte) (int, error) {
	if c.to == nil {
		return 0, io.ErrClosedPipe
	}
	return c.to.Write(p)
}

func (c *oneWay) Close() error { return nil }

const (
	recordHeader = 5
	recordType   = 22
	helloType    = 1
)

// inRecords cuts the message of one record into records of a size.
func inRecords(hello []byte, size int) []byte {
	var out []byte
	for message := hello[recordHeader:]; len(message) > 0; {
		n := min(size, len(message))
		out = append(out, recordType, 3, 1)
		out = binary.BigEndian.AppendUint16(out, uint16(n))
		out = append(out, message[:n]...)
		message = message[n:]
	}
	return out
}

func TestReadClientHello(t *testing.T) {
	plain := helloOf(t, "Api.Example.com")
	long := append([]byte{recordType, 3, 1, 0x40, 0}, make([]byte, 1<<14)...)
	long[5] = helloType
	wide := append([]byte{recordType, 3, 1, 0, 4}, helloType, 1, 0, 0)
	for what, tc := range map[string]struct {
		in   []byte
		name string
		err  error // of which kind; nil: none
	}{
		"a hello":                {plain, "api.example.com", nil},
		"more behind it":         {append(bytes.Clone(plain), "GET /"...), "api.example.com", nil},
		"in records of 200":      {inRecords(plain, 200), "api.example.com", nil},
		"in records of 1":        {inRecords(plain, 1), "", errNotTLS},
		"without a name":         {helloOf(t, ""), "", nil},
		"an address is no name":  {helloOf(t, "192.0.2.1"), "", nil},
		"HTTP":                   {[]byte("GET / HTTP/1.1\r\n"), "", errNotTLS},
		"nothing":                {nil, "", io.EOF},
		"half of it":             {plain[:len(plain)/2], "", io.ErrUnexpectedEOF},
		"an alert":               {[]byte{21, 3, 1, 0, 2, 2, 40}, "", errNotTLS},
		"an empty record":        {[]byte{recordType, 3, 1, 0, 0}, "", errNotTLS},
		"another message":        {[]byte{recordType, 3, 1, 0, 4, 2, 0, 0, 0}, "", errNotTLS},
		"a record that is long":  {long, "", stranger.ErrHelloTooLong},
		"a message that is long": {wide, "", stranger.ErrHelloTooLong},
		"a name with a line end": {bytes.ReplaceAll(plain, []byte("Api.Example.com"), []byte("Api\nExample.com")), "", errNotTLS},
	} {
		for how, in := range map[string]io.Reader{"at once": bytes.NewReader(tc.in), "byte by byte": iotest.OneByteReader(bytes.NewReader(tc.in))} {
			name, read, err := readClientHello(in)
			if name != tc.name || !errors.Is(err, tc.err) {
				t.Errorf("%s, %s: %q, %v", what, how, name, err)
			}
			if !bytes.HasPrefix(tc.in, read) || tc.err == nil && len(read) > 0 && len(tc.in)-len(read) > len("GET /") {
				t.Errorf("%s, %s: what is for the backend is not what was sent: %d bytes of %d", what, how, len(read), len(tc.in))
			}
		}
	}
	if name, err := plainName("a.example.com."); name != "a.example.com" || err != nil {
		t.Errorf("a name with a dot at its end: %q, %v", name, err)
	}
}

// TestTwoNames: a backend might take the other one of them.
func TestTwoNames(t *testing.T) {
	extension := func(names ...string) (out []byte) {
		var list []byte
		for _, n := range names {
			list = append(append(list, 0, 0, byte(len(n))), n...)
		}
		out = append(out, 0, 0, 0, byte(len(list)+2), 0, byte(len(list)))
		return append(out, list...)
	}
	message := func(extensions ...[]byte) []byte {
		all := bytes.Join(extensions, nil)
		out := append(make([]byte, 34), 0, 0, 2, 19, 1, 1, 0)
		return append(append(out, 0, byte(len(all))), all...)
	}
	for what, tc := range map[string]struct {
		in   []byte
		name string
		ok   bool
	}{
		"one":                   {message(extension("a")), "a", true},
		"none in the list":      {message(extension()), "", true},
		"two in a list":         {message(extension("a", "b")), "", false},
		"two extensions":        {message(extension("a"), extension("b")), "", false},
		"an empty one":          {message(extension("")), "", false},
		"no extensions at all":  {message()[:41], "", true},
		"something behind them": {append(message(extension("a")), 0), "", false},
	} {
		name, err := serverName(tc.in)
		if name != tc.name || (err == nil) != tc.ok {
			t.Errorf("%s: %q, %v", what, name, err)
		}
	}
}

// FuzzReadClientHello: it never reads more than it may, gives to the backend what was sent, and where Go's own server finds a name, it finds
// the same one or refuses.
func FuzzReadClientHello(f *testing.F) {
	plain := helloOf(f, "api.example.com")
	for _, seed := range [][]byte{plain, inRecords(plain, 200), inRecords(plain, 7), helloOf(f, ""), []byte("GET / HTTP/1.1\r\n\r\n"), plain[:60]} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		name, read, err := readClientHello(bytes.NewReader(in))
		if len(read) > stranger.MaxHello || !bytes.HasPrefix(in, read) {
			t.Fatalf("%d bytes are read of %d", len(read), len(in))
		}
		if err != nil {
			if name != "" {
				t.Errorf("a name, %q, and an error, %v", name, err)
			}
			return
		}
		seen := false
		var theirs string
		server := tls.Server(&oneWay{from: bytes.NewReader(read)}, &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			seen, theirs = true, h.ServerName
			return nil, stranger.ErrCrowded
		}})
		_ = server.Handshake() // ends with that error, or before
		if seen && strings.ToLower(strings.TrimSuffix(theirs, ".")) != name {
			t.Errorf("%q, and Go's server says %q", name, theirs)
		}
	})
}
