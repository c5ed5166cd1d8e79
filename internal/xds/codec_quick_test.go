// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// TestUsualWorkloadsAreReadQuickly says that what we encode is read without the generated code, to the same values.
func TestUsualWorkloadsAreReadQuickly(t *testing.T) {
	for _, w := range []value{{workload: samplePod()}, {workload: sampleGatewayPod()}, {workload: sampleConfiningPod()}, {workload: sampleSplitHorizon()}} {
		_, body, err := encodeValue(w)
		if err != nil {
			t.Fatal(err)
		}
		if got := quickWorkload(body); !reflect.DeepEqual(got, w.workload) {
			t.Errorf("%s was read as\n%+v, want\n%+v", w.name(), got, w.workload)
		}
	}
}

// TestUnusualWorkloadsAreNotReadQuickly adds to a workload what only the generated code may judge.
func TestUnusualWorkloadsAreNotReadQuickly(t *testing.T) {
	text := func(number protowire.Number, s string) []byte {
		return protowire.AppendString(protowire.AppendTag(nil, number, protowire.BytesType), s)
	}
	number := func(number protowire.Number, n uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(nil, number, protowire.VarintType), n)
	}
	for name, more := range map[string][]byte{
		"a field that is not known":       text(99, "x"),
		"another wire type":               number(workloadName, 1),
		"a fixed number":                  protowire.AppendFixed32(protowire.AppendTag(nil, 99, protowire.Fixed32Type), 1),
		"a string that is not UTF-8":      text(workloadName, "\xff"),
		"a name that is too long":         text(workloadNamespace, strings.Repeat("n", maxName+1)),
		"an address of five bytes":        text(workloadAddresses, "12345"),
		"a tunnel that is not known":      number(workloadTunnel, 2),
		"a locality in two parts":         append(text(workloadLocality, ""), text(workloadLocality, "")...),
		"a gateway without a destination": text(workloadGateway, ""),
		"a gateway with two destinations": text(workloadGateway, string(append(text(1, string(append(text(1, "n"), text(2, "h")...))), text(2, string(text(2, "1234")))...))),
		"a port out of range":             text(workloadServices, string(append(text(1, "n/h"), text(2, string(text(1, string(number(1, 65536)))))...))),
		"a service without a namespace":   text(workloadServices, string(text(1, "h"))),
		"an extension that holds more":    text(workloadExtensions, string(append(text(1, extensionGateway), text(2, "")...))),
		"too many extensions":             []byte(strings.Repeat(string(text(workloadExtensions, "")), maxExtensions+1)),
		"a length beyond the end":         {workloadName<<3 | 2, 5, 'x'},
		"a number that does not end":      {workloadStatus<<3 | 0x80, 0xff},
		"too large a body":                text(workloadNode, strings.Repeat("x", maxQuick)),
	} {
		body := text(addressWorkload, string(text(workloadUID, "u"))+string(more))
		if w := quickWorkload(body); w != nil {
			t.Errorf("%s: read as %+v", name, w)
		}
	}
}

// FuzzQuickWorkload says that whatever is read quickly, the generated code reads as the same.
func FuzzQuickWorkload(f *testing.F) {
	for _, w := range []value{{workload: samplePod()}, {workload: sampleGatewayPod()}, {workload: sampleSplitHorizon()}} {
		_, body, err := encodeValue(w)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		w := quickWorkload(body)
		if w == nil {
			return
		}
		want, err := decodeAddress(body)
		if err != nil {
			t.Fatalf("read quickly as %+v, and else not: %v", w, err)
		}
		if !reflect.DeepEqual(w, want.workload) {
			t.Fatalf("read quickly as\n%+v, else as\n%+v", w, want.workload)
		}
	})
}
