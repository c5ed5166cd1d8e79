// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestBaggage(t *testing.T) {
	w := &mesh.Workload{
		Cluster: "east", Namespace: "shop", WorkloadName: "cart", Kind: mesh.KindDeployment, CanonicalName: "cart", CanonicalRevision: "v1",
		Locality: mesh.Locality{Region: "r", Zone: "z"},
	}
	const want = "k8s.cluster.name=east,k8s.namespace.name=shop,k8s.deployment.name=cart,service.name=cart,service.version=v1,cloud.region=r,cloud.availability_zone=z"
	if got := BaggageOf(w).String(); got != want {
		t.Errorf("got %s", got)
	}
	if got := ParseBaggage(" k8s.job.name = a%2Cb;prop=1 , unknown=1,,broken=%zz,service.name="); got != (Baggage{Kind: "job", Workload: "a,b"}) {
		t.Errorf("got %+v", got)
	}
	if got := ParseBaggage("service.name=" + strings.Repeat("a", maxHeader)); got != (Baggage{}) {
		t.Error("a value without bound was read")
	}
	if got := ParseBaggage("service.name=%ff,cloud.region=" + strings.Repeat("a", maxMember+1)); got != (Baggage{}) {
		t.Errorf("what is not a name was read: %+v", got)
	}
	if got := (Baggage{Cluster: "a b\n,c=d"}).String(); strings.ContainsAny(got, " \n") || ParseBaggage(got).Cluster != "a b\n,c=d" {
		t.Errorf("got %q", got)
	}
}

func TestForwarded(t *testing.T) {
	for in, want := range map[string]Forwarded{
		`for="10.0.0.1:80";host=a.b`:           {For: netip.MustParseAddrPort("10.0.0.1:80"), Host: "a.b"},
		`for="[fd00::1]:80";host="a.b"`:        {For: netip.MustParseAddrPort("[fd00::1]:80"), Host: "a.b"},
		`For="10.0.0.1:80", for="10.0.0.2:80"`: {For: netip.MustParseAddrPort("10.0.0.1:80")},
		`for=unknown;proto=http`:               {},
		`host=a b`:                             {},
		``:                                     {},
	} {
		if got := ParseForwarded(in); got != want {
			t.Errorf("%s: %+v", in, got)
		}
	}
	f := Forwarded{For: netip.MustParseAddrPort("[fd00::1]:80"), Host: "a.b"}
	if got := f.String(); got != `for="[fd00::1]:80";host=a.b` || ParseForwarded(got) != f {
		t.Errorf("got %s", got)
	}
}

func TestTraceparent(t *testing.T) {
	const good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	if got := traceparent(good); got != good {
		t.Errorf("a good one became %s", got)
	}
	for _, bad := range []string{
		"", good[:54], good + "0", strings.ToUpper(good), "01" + good[2:], "00-" + strings.Repeat("0", 32) + good[35:],
		good[:36] + strings.Repeat("0", 16) + good[52:], strings.Replace(good, "0a", "0g", 1),
	} {
		got := traceparent(bad)
		if got == bad || !validTrace(got) {
			t.Errorf("%q became %q", bad, got)
		}
	}
}

func TestForwardedNetwork(t *testing.T) {
	for in, want := range map[string]string{"east": "east", "": "", "a b": "", "a\"b": "", strings.Repeat("a", 254): ""} {
		if got := forwardedNetwork(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}

func FuzzHeaders(f *testing.F) {
	f.Add(`k8s.cluster.name=east,service.name=a%20b`)
	f.Add(`service.name=%ff,k8s.pod.name=%00`)
	f.Add(`for="10.0.0.1:80";host=a.b`)
	f.Add("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	f.Fuzz(func(t *testing.T, header string) {
		b := ParseBaggage(header)
		if again := ParseBaggage(b.String()); len(b.String()) <= maxHeader && again != b {
			t.Fatalf("%+v became %+v", b, again)
		}
		for _, label := range (party{workload: b.Workload, service: b.Service, revision: b.Revision, namespace: b.Namespace, cluster: b.Cluster}).labels(nil) {
			if !utf8.ValidString(label) || len(label) > maxMember {
				t.Fatalf("metrics cannot be labelled %q", label)
			}
		}
		fw := ParseForwarded(header)
		if fw.For.IsValid() && ParseForwarded(fw.String()) != fw {
			t.Fatalf("%+v became %+v by way of %s", fw, ParseForwarded(fw.String()), fw)
		}
		if got := traceparent(header); !validTrace(got) {
			t.Fatalf("traceparent %q", got)
		}
		if got := forwardedNetwork(header); strings.ContainsAny(got, " \r\n\"") {
			t.Fatalf("network %q", got)
		}
	})
}
