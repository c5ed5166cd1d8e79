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

// TestSizeCountsNames: what an endpoint or a port is called counts as it is, however many there are.
func TestSizeCountsNames(t *testing.T) {
	name := strings.Repeat("x", 253)
	for what, tc := range map[string]struct {
		short, long Object
		names       int
	}{
		"pods":              {&EndpointSlice{Endpoints: []Endpoint{{Pod: "x"}, {Pod: "x"}}}, &EndpointSlice{Endpoints: []Endpoint{{Pod: name}, {Pod: name}}}, 2},
		"nodes":             {&EndpointSlice{Endpoints: []Endpoint{{Node: "x"}}}, &EndpointSlice{Endpoints: []Endpoint{{Node: name}}}, 1},
		"a slice's ports":   {&EndpointSlice{Ports: []EndpointPort{{Name: "x"}}, UDPPorts: []EndpointPort{{Name: "x"}}}, &EndpointSlice{Ports: []EndpointPort{{Name: name}}, UDPPorts: []EndpointPort{{Name: name}}}, 2},
		"a Service's ports": {&Service{Ports: []ServicePort{{Name: "x"}}, UDPPorts: []ServicePort{{Name: "x"}}}, &Service{Ports: []ServicePort{{Name: name}}, UDPPorts: []ServicePort{{Name: name}}}, 2},
	} {
		if got, want := Size(tc.long)-Size(tc.short), int64(252*tc.names); got != want {
			t.Errorf("%s that are longer count %d bytes more, want %d", what, got, want)
		}
	}
	if got := reflect.TypeFor[Endpoint]().Size(); got != endpointSize {
		t.Errorf("an endpoint takes %d bytes", got)
	}
	if got := max(reflect.TypeFor[EndpointPort]().Size(), reflect.TypeFor[ServicePort]().Size()); got != portSize {
		t.Errorf("a port takes %d bytes", got)
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
