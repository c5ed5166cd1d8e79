// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/translate"
)

// refusedOf reads isthmus_remote_refused_total of a cluster, by reason.
func refusedOf(t *testing.T, from prometheus.Gatherer, cluster string) map[string]float64 {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if f.GetName() == "isthmus_remote_refused_total" && labels["cluster"] == cluster {
				out[labels["reason"]] += m.GetCounter().GetValue()
			}
		}
	}
	return out
}

// TestEveryRefusalIsCounted has each kind of refusal come, go and come again: each time that it comes it is counted, under one reason, which the docs name.
func TestEveryRefusalIsCounted(t *testing.T) {
	docs, err := os.ReadFile("../docs/clusters.md")
	if err != nil {
		t.Fatal(err)
	}
	kind := reflect.TypeFor[translate.RemoteCount]()
	for i := range kind.NumField() {
		f := kind.Field(i)
		if f.Type.Kind() != reflect.Int || f.Name == "Services" || f.Name == "Endpoints" {
			continue
		}
		t.Run(f.Name, func(t *testing.T) {
			registry := prometheus.NewRegistry()
			m := newRemoteMetrics(registry)
			tell := func(n int64) {
				count := translate.RemoteCount{Network: "west", Services: 7, Endpoints: 9}
				reflect.ValueOf(&count).Elem().Field(i).SetInt(n)
				m.translated("west", &count)
			}
			for _, n := range []int64{0, 3, 3, 1, 2} { // 3 come, 2 go, 1 comes
				tell(n)
			}
			m.translated("west", nil)
			tell(2)
			got := refusedOf(t, registry, "west")
			if len(got) != 1 {
				t.Fatalf("counted as %v", got)
			}
			for reason, n := range got {
				if n != 3+1+2 {
					t.Errorf("%v of %q are counted, want 6", n, reason)
				}
				if !strings.Contains(string(docs), "`"+reason+"`") {
					t.Errorf("docs/clusters.md does not name the reason %q", reason)
				}
			}
			m.forget("west")
			if got := refusedOf(t, registry, "west"); len(got) != 0 {
				t.Errorf("of a cluster that is gone is left %v", got)
			}
		})
	}
}

// TestEveryReasonIsInTheDocs reads the reasons of a RemoteCluster's conditions where they are declared.
func TestEveryReasonIsInTheDocs(t *testing.T) {
	read := func(file string) string {
		text, err := os.ReadFile("../" + file)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	docs := read("docs/clusters.md")
	reasons := regexp.MustCompile(`(?m)^\tReason\w+ += "(\w+)"$`).FindAllStringSubmatch(read("apis/v1alpha1/remotecluster_types.go"), -1)
	if len(reasons) < 20 {
		t.Fatalf("only %d reasons were found", len(reasons))
	}
	for _, r := range reasons {
		if !strings.Contains(docs, "`"+r[1]+"`") {
			t.Errorf("docs/clusters.md does not name %s", r[1])
		}
	}
}
