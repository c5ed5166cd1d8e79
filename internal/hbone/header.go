// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/net/http2/hpack"
)

// Field is one header field. Name is lower case and no pseudo-header.
type Field struct{ Name, Value string }

// Header is a list of fields in the order of the wire. Names may repeat.
type Header []Field

// Get gives the first value of the field, or "".
func (h Header) Get(name string) string {
	for _, f := range h {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// maxHeaderSent bounds the header lists that we send, whatever the settings, in decoded bytes: a block is no longer than they are counted and fits into one frame.
const maxHeaderSent = minFrameSize

// fieldOverhead is what RFC 9113 §6.5.2 adds for each field, in bytes.
const fieldOverhead = 32

// check says whether the header may be sent: legal names and values, none of those that HTTP/2 forbids, and within limit decoded bytes
// (pseudo-headers included through extra).
func (h Header) check(limit uint32, extra int) error {
	size := extra
	for _, f := range h {
		if !validName(f.Name) || forbidden(f.Name, f.Value) {
			return fmt.Errorf("hbone: header field %q is not allowed", f.Name)
		}
		if !validValue(f.Value) {
			return fmt.Errorf("hbone: value of header field %q is not allowed", f.Name)
		}
		size += len(f.Name) + len(f.Value) + fieldOverhead
	}
	if size > int(limit) {
		return fmt.Errorf("hbone: header list of %d bytes is larger than %d", size, limit)
	}
	return nil
}

// validName says whether s is a field name of RFC 9113 §8.2.1: a token without upper case.
func validName(s string) bool {
	if s == "" {
		return false
	}
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || c >= 'A' && c <= 'Z' || strings.IndexByte("\"(),/:;<=>?@[\\]{}", c) >= 0 {
			return false
		}
	}
	return true
}

// validValue says whether s is a field value of RFC 9113 §8.2.1, refusing all controls but the tab.
func validValue(s string) bool {
	for _, c := range []byte(s) {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return s == "" || s[0] != ' ' && s[0] != '\t' && s[len(s)-1] != ' ' && s[len(s)-1] != '\t'
}

// forbidden says whether the field speaks about a connection, which HTTP/2 treats as malformed (RFC 9113 §8.2.2).
func forbidden(name, value string) bool {
	switch name {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
		return true
	case "te":
		return value != "trailers"
	}
	return false
}

// headerList is a received header list, decoded.
type headerList struct {
	pseudo    pseudoHeaders
	method    string
	authority string
	scheme    string
	path      string
	status    string
	fields    Header
	malformed string // why, or ""
	tooLarge  bool   // more decoded bytes than allowed; what is here is only the beginning
}

// pseudoHeaders is the set of those that a list has.
type pseudoHeaders uint8

const (
	hasMethod pseudoHeaders = 1 << iota
	hasAuthority
	hasScheme
	hasPath
	hasStatus
)

// setPseudo takes a pseudo-header over and says what is wrong with it, or "".
func (l *headerList) setPseudo(name, value string) string {
	var has pseudoHeaders
	var field *string
	switch name {
	case ":method":
		has, field = hasMethod, &l.method
	case ":authority":
		has, field = hasAuthority, &l.authority
	case ":scheme":
		has, field = hasScheme, &l.scheme
	case ":path":
		has, field = hasPath, &l.path
	case ":status":
		has, field = hasStatus, &l.status
	default:
		return "unknown pseudo-header"
	}
	if l.pseudo&has != 0 || len(l.fields) > 0 {
		return "pseudo-header " + name + " twice or after a field"
	}
	l.pseudo |= has
	*field = value
	return ""
}

// headerDecoder turns header blocks into lists. It belongs to the holder of the seat: HPACK's state follows the order of the wire.
type headerDecoder struct {
	hpack *hpack.Decoder
	limit uint32
	left  int
	list  headerList
}

func newHeaderDecoder(limit uint32) *headerDecoder {
	d := &headerDecoder{limit: limit}
	d.hpack = hpack.NewDecoder(4096, d.emit)
	d.hpack.SetMaxStringLength(int(limit))
	return d
}

// decodeAtOnce is how much of a block is decoded before it is looked at how large the list has become, in bytes: one byte may name 4 KiB of the table.
const decodeAtOnce = 256

// errHeaderBomb says that a list is more than three times as large as is allowed: it is not worth the work to find its end.
var errHeaderBomb = errors.New("header list far too large")

// decode reads one whole block. An error means that the compression state is lost, and the connection with it.
func (d *headerDecoder) decode(block []byte) (headerList, error) {
	d.list = headerList{}
	d.left = int(d.limit)
	for len(block) > 0 {
		n := min(len(block), decodeAtOnce)
		if _, err := d.hpack.Write(block[:n]); err != nil {
			return headerList{}, err
		}
		if d.left < -2*int(d.limit) {
			return headerList{}, errHeaderBomb
		}
		block = block[n:]
	}
	if err := d.hpack.Close(); err != nil {
		return headerList{}, err
	}
	list := d.list
	d.list = headerList{}
	return list, nil
}

func (d *headerDecoder) emit(f hpack.HeaderField) {
	l := &d.list
	d.left -= len(f.Name) + len(f.Value) + fieldOverhead
	if d.left < 0 {
		l.tooLarge = true // the rest only keeps the table in step
		return
	}
	switch {
	case l.malformed != "":
	case !validValue(f.Value):
		l.malformed = "bad value of " + f.Name
	case f.IsPseudo():
		l.malformed = l.setPseudo(f.Name, f.Value)
	case !validName(f.Name):
		l.malformed = "bad field name"
	case forbidden(f.Name, f.Value):
		l.malformed = "field " + f.Name + " has no place in HTTP/2"
	default:
		l.fields = append(l.fields, Field{Name: f.Name, Value: f.Value})
	}
}
