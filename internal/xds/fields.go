// SPDX-License-Identifier: Apache-2.0

package xds

import "unicode/utf8"

// fields walks the fields of one encoded message, without a copy: what it gives are parts of the string that it was given. It knows the two wire types that our
// messages use, and stops at anything else.
type fields struct {
	rest string
	// number, and either text or value, are the field at which next has stopped.
	number uint64
	text   string
	value  uint64
	length bool // the field is text
	bad    bool // what came is no field, or of another wire type
}

// next goes to the next field; false if there is none, or bad.
func (f *fields) next() bool {
	if f.rest == "" || f.bad {
		return false
	}
	tag := f.varint()
	f.number, f.text, f.value = tag>>3, "", 0
	switch tag & 7 {
	case 0:
		f.length, f.value = false, f.varint()
	case 2:
		n := f.varint()
		if n > uint64(len(f.rest)) {
			f.bad = true
			break
		}
		f.length, f.text, f.rest = true, f.rest[:n], f.rest[n:]
	default:
		f.bad = true
	}
	return !f.bad
}

// varint reads a base 128 number of at most 64 bits (Protocol Buffers, encoding, "Base 128 varints").
func (f *fields) varint() uint64 {
	var v uint64
	for i := 0; i < len(f.rest) && i < 10; i++ {
		b := f.rest[i]
		if i == 9 && b > 1 {
			break
		}
		v |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			f.rest = f.rest[i+1:]
			return v
		}
	}
	f.bad = true
	return 0
}

// str is the field as a string, which must be UTF-8.
func (f *fields) str() string {
	if !f.length || !utf8.ValidString(f.text) {
		f.bad = true
	}
	return f.text
}

// bytes is the field as bytes or as a message.
func (f *fields) bytes() string {
	if !f.length {
		f.bad = true
	}
	return f.text
}

// num is the field as a number of 32 bits, of which the wire may carry more.
func (f *fields) num() uint32 {
	if f.length {
		f.bad = true
	}
	return uint32(f.value)
}
