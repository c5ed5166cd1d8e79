// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"bufio"
	"encoding/json"
	"io"
)

// object writes a JSON object field by field, and lists element by element, so that the whole is never in memory as text: of a big mesh it would be more than the proxy itself.
type object struct {
	w      *bufio.Writer
	fields int
}

func newObject(to io.Writer) *object {
	o := &object{w: bufio.NewWriterSize(to, 32<<10)}
	o.text("{")
	return o
}

func (o *object) end() {
	o.text("\n}\n")
	o.w.Flush() //nolint:errcheck // whoever asked has gone
}

func (o *object) field(name string, v any) {
	o.name(name)
	o.value("  ", v)
}

// list writes a field of which each element is made when its turn comes.
func list[V any](o *object, name string, all []V, show func(V) any) {
	o.name(name)
	o.text("[")
	for i, v := range all {
		if i > 0 {
			o.text(",")
		}
		o.text("\n    ")
		o.value("    ", show(v))
	}
	if len(all) > 0 {
		o.text("\n  ")
	}
	o.text("]")
}

func (o *object) name(name string) {
	if o.fields++; o.fields > 1 {
		o.text(",")
	}
	o.text("\n  ")
	o.value("", name)
	o.text(": ")
}

func (o *object) value(prefix string, v any) {
	text, err := json.MarshalIndent(v, prefix, "  ")
	if err != nil { // of a kind that JSON has nothing for
		text = []byte("null")
	}
	o.w.Write(text) //nolint:errcheck // kept by w, and nobody's to hear
}

func (o *object) text(s string) { o.w.WriteString(s) } //nolint:errcheck // the same
