// SPDX-License-Identifier: Apache-2.0

package zds

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// The hex is what protoc's encoding of zds.proto gives, written out by hand: field numbers are the interoperability contract.
func TestWireBytes(t *testing.T) {
	for _, tt := range []struct {
		name string
		got  []byte
		want string
	}{
		{"hello v1", encodeHello(hello{version: 1}), "0801"},
		{"hello of ours", encodeHello(hello{1, Proxy{"ns", "n", true}}), "0801" + "c83e01" + "d23e016e" + "da3e026e73"},
		{"snapshot sent", encodeRequest(request{kind: kindSnapshot}), "1a00"},
		{"keep", encodeRequest(request{kind: kindKeep, workload: Workload{UID: "u"}}), "2a03" + "0a0175"},
		{"del has its uid in field 2", encodeRequest(request{kind: kindDel, workload: Workload{UID: "u"}}), "1203" + "120175"},
		{"add", encodeRequest(request{kind: kindAdd, workload: Workload{"u", "n", "ns", "sa", false}}),
			"0a10" + "0a0175" + "120b" + "0a016e" + "12026e73" + "1a027361"},
		{"add of a pod that terminates", encodeRequest(request{kindAdd, Workload{"u", "n", "ns", "sa", true}}),
			"0a13" + "0a0175" + "120b" + "0a016e" + "12026e73" + "1a027361" + "c83e01"},
		{"ack", encodeAck(ack{}), "0a00"},
		{"ack with an error", encodeAck(ack{err: "no"}), "0a04" + "0a026e6f"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := hex.EncodeToString(tt.got); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestDecodeRequest(t *testing.T) {
	for _, tt := range []struct {
		name string
		hex  string
		want request
		err  string
	}{
		{name: "add", hex: "0a10" + "0a0175" + "120b" + "0a016e" + "12026e73" + "1a027361", want: request{kindAdd, Workload{"u", "n", "ns", "sa", false}}},
		{name: "add of a pod that terminates", hex: "0a06" + "0a0175" + "c83e01", want: request{kindAdd, Workload{UID: "u", Terminating: true}}},
		{name: "add without info", hex: "0a03" + "0a0175", want: request{kindAdd, Workload{UID: "u"}}},
		{name: "unknown field beside", hex: "7801" + "2a03" + "0a0175", want: request{kindKeep, Workload{UID: "u"}}},
		{name: "unknown field within", hex: "2a05" + "0a0175" + "5001", want: request{kindKeep, Workload{UID: "u"}}},
		{name: "the last alternative counts", hex: "1a00" + "1203" + "120175", want: request{kindDel, Workload{UID: "u"}}},
		{name: "empty", hex: "", err: "without a known alternative"},
		{name: "unknown alternative only", hex: "3200", err: "without a known alternative"},
		{name: "del with its uid in field 1", hex: "1203" + "0a0175", err: "del without a uid"},
		{name: "uid not UTF-8", hex: "2a03" + "0a01ff", err: "not UTF-8"},
		{name: "cut short", hex: "2a09" + "0a0175", err: "malformed"},
		{name: "wrong wire type", hex: "0801", err: "wire type"},
		{name: "wrong wire type of ours", hex: "0a06" + "0a0175" + "ca3e00", err: "wire type"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, err := hex.DecodeString(tt.hex)
			if err != nil {
				t.Fatal(err)
			}
			got, err := decodeRequest(b)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || !errors.Is(err, errMalformed) {
					t.Fatalf("error %v, want one with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestShorten(t *testing.T) {
	for _, tt := range []struct {
		in    string
		limit int
		want  string
	}{
		{"abc", 3, "abc"}, {"abcd", 3, "abc"}, {"aé", 2, "a"}, {"é", 1, ""}, {"\xff", 8, "\uFFFD"},
	} {
		if got := shorten(tt.in, tt.limit); got != tt.want || !utf8.ValidString(got) {
			t.Errorf("shorten(%q, %d) = %q, want %q", tt.in, tt.limit, got, tt.want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, r := range []request{
		{kindAdd, Workload{"u", "n", "ns", "sa", false}}, {kindAdd, Workload{UID: "u", Terminating: true}}, {kindKeep, Workload{UID: "u"}}, {kindDel, Workload{UID: "u"}}, {kind: kindSnapshot},
	} {
		f.Add(encodeRequest(r))
	}
	f.Add(encodeHello(hello{version: 1}))
	f.Add(encodeHello(hello{1, Proxy{"ns", "n", true}}))
	f.Add(encodeAck(ack{err: "no"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := decodeRequest(b); err == nil {
			again, err := decodeRequest(encodeRequest(r))
			if err != nil {
				t.Fatalf("own encoding of %+v: %v", r, err)
			}
			if diff := cmp.Diff(r, again, cmp.AllowUnexported(request{})); diff != "" {
				t.Fatal(diff)
			}
		}
		if a, err := decodeAck(b); err == nil {
			if again, err := decodeAck(encodeAck(a)); err != nil || again != a {
				t.Fatalf("own encoding of %+v: %+v, %v", a, again, err)
			}
		}
		if v, err := decodeHello(b); err == nil {
			if again, err := decodeHello(encodeHello(v)); err != nil || again != v {
				t.Fatalf("own encoding of %+v: %+v, %v", v, again, err)
			}
		}
	})
}
