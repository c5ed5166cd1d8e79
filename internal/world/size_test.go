// SPDX-License-Identifier: Apache-2.0

package world

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// TestSizeCountsWhatIsHeld fills each text of kinds that are large, and compares with what the same takes as JSON, names of fields left out.
func TestSizeCountsWhatIsHeld(t *testing.T) {
	const long = 100_000
	for _, o := range []Object{&Gateway{}, &ServiceScope{}} {
		empty := Size(o)
		fill(reflect.ValueOf(o).Elem(), strings.Repeat("x", long))
		text, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		texts := int64(strings.Count(string(text), strings.Repeat("x", long)))
		if got := Size(o); texts < 5 || got < empty-rareSize+texts*long {
			t.Errorf("%T holds %d texts of %d bytes, and its size is %d", o, texts, long, got)
		}
	}
}

// fill sets every text of a value, in one element of each list and map.
func fill(v reflect.Value, text string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), text)
	case reflect.Struct:
		for _, field := range v.Fields() {
			fill(field, text)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), text)
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, text)
		fill(value, text)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	}
}
