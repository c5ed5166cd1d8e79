// SPDX-License-Identifier: Apache-2.0

package mesh

import "reflect"

// Size is about how many bytes the route takes on the wire, and never less than it does.
func (r *HTTPRoute) Size() int { return sizeOf(reflect.ValueOf(r).Elem()) }

// Size is about how many bytes the policy takes on the wire, and never less than it does.
func (p *Policy) Size() int { return sizeOf(reflect.ValueOf(p).Elem()) }

// Size is about how many bytes the listener takes on the wire with all that it has, and never less than it does.
func (l *Listener) Size() int { return sizeOf(reflect.ValueOf(l).Elem()) }

// Size is about how many bytes the route takes on the wire at one listener, and never less than it does.
func (r *TLSRoute) Size() int { return sizeOf(reflect.ValueOf(r).Elem()) }

// Size is about how many bytes the route takes on the wire at one listener, and never less than it does.
func (r *StreamRoute) Size() int { return sizeOf(reflect.ValueOf(r).Elem()) }

// What goes with a value on the wire, in bytes: a tag and a length of up to 2 MiB, or a tag and a number.
const (
	framed   = 6
	numbered = 12
)

// sizeOf bounds what a value takes as a message of protobuf. Each field has a tag of at most two bytes there, and what is zero is left out.
func sizeOf(v reflect.Value) int {
	switch v.Kind() {
	case reflect.String:
		if v.Len() == 0 {
			return 0
		}
		return framed + v.Len()
	case reflect.Slice:
		n := 0
		for i := range v.Len() {
			n += framed + sizeOf(v.Index(i))
		}
		return n
	case reflect.Pointer:
		if v.IsNil() {
			return 0
		}
		return framed + sizeOf(v.Elem())
	case reflect.Struct:
		n := framed
		for i := range v.NumField() {
			n += sizeOf(v.Field(i))
		}
		return n
	}
	if v.IsZero() {
		return 0
	}
	return numbered
}
