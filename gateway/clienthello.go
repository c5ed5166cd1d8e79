// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"io"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/stranger"
)

var errNotTLS = stranger.ErrNotTLS

// readClientHello reads the first message of a TLS connection. It gives the name that the client asks for, in lower case and without the
// dot at its end, or "", and everything that it read, which is for the backend. Nothing beyond the records of the message is read.
func readClientHello(from io.Reader) (name string, read []byte, err error) {
	var there stranger.Progress
	for {
		size, whole, err := there.Look(read)
		if err != nil {
			return "", read, err
		}
		if whole {
			name, err := serverName(stranger.Message(read))
			return name, read, err
		}
		at := len(read)
		read = append(read, make([]byte, size-at)...)
		if n, err := io.ReadFull(from, read[at:]); err != nil {
			return "", read[:at+n], err
		}
	}
}

// cursor reads from the front of a message. After it has failed it gives nothing.
type cursor struct {
	rest   []byte
	failed bool
}

func (c *cursor) take(n int) []byte {
	if c.failed || n > len(c.rest) {
		c.failed = true
		return nil
	}
	out := c.rest[:n]
	c.rest = c.rest[n:]
	return out
}

// vector takes a part that has its length in front, as a number of so many bytes.
func (c *cursor) vector(lengthBytes int) cursor {
	n := 0
	for _, b := range c.take(lengthBytes) {
		n = n<<8 | int(b)
	}
	rest := c.take(n)
	return cursor{rest: rest, failed: c.failed}
}

// serverName finds the server_name extension (RFC 6066 §3) of a ClientHello (RFC 8446 §4.1.2).
func serverName(hello []byte) (string, error) {
	c := cursor{rest: hello}
	c.take(2 + 32) // version, random
	c.vector(1)    // session id
	c.vector(2)    // cipher suites
	c.vector(1)    // compression methods
	if c.failed {
		return "", errNotTLS
	}
	if len(c.rest) == 0 {
		return "", nil
	}
	extensions := c.vector(2)
	name, found := "", false
	for !extensions.failed && len(extensions.rest) > 0 {
		kind := extensions.take(2)
		body := extensions.vector(2)
		if extensions.failed {
			break
		}
		if kind[0] != 0 || kind[1] != 0 {
			continue
		}
		if found { // which of them the backend takes cannot be told
			return "", errNotTLS
		}
		found = true
		list := body.vector(2)
		for !list.failed && len(list.rest) > 0 {
			kind, host := list.take(1), list.vector(2)
			if list.failed || kind[0] != 0 {
				continue
			}
			if name != "" || len(host.rest) == 0 {
				return "", errNotTLS
			}
			name = string(host.rest)
		}
		if body.failed || list.failed || len(body.rest) > 0 {
			return "", errNotTLS
		}
	}
	if c.failed || extensions.failed || len(c.rest) > 0 {
		return "", errNotTLS
	}
	return plainName(name)
}

// plainName gives a name as it is compared. One that no host can have is none that the client may ask for: it goes into logs.
func plainName(name string) (string, error) {
	if name == "" {
		return "", nil
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if len(name) > 253 || name == "" {
		return "", errNotTLS
	}
	for _, b := range []byte(name) {
		if (b < 'a' || b > 'z') && (b < '0' || b > '9') && b != '-' && b != '.' && b != '_' {
			return "", errNotTLS
		}
	}
	return name, nil
}
