// SPDX-License-Identifier: Apache-2.0

package world

import (
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"
	"unsafe"
)

func pooled(name string) *Pod {
	return &Pod{
		Key: Key{"west", strings.Clone("shop"), name}, Labels: map[string]string{"app": "cart", "tier": "back"},
		Node: strings.Clone("node-1"), ServiceAccount: strings.Clone("cart"), WorkloadName: strings.Clone("cart"), Ready: true,
	}
}

func TestPoolSharesWithoutChanging(t *testing.T) {
	var p Pool
	a, b, other := pooled("a"), pooled("b"), pooled("c")
	other.Labels["tier"] = "front"
	want := *b
	want.Labels = maps.Clone(b.Labels)
	for _, pod := range []*Pod{a, b, other} {
		p.Share(pod)
	}
	if !reflect.DeepEqual(*b, want) {
		t.Errorf("shared as %+v, want %+v", *b, want)
	}
	if other.Labels["tier"] != "front" {
		t.Errorf("other labels became %v", other.Labels)
	}
	if reflect.ValueOf(a.Labels).Pointer() != reflect.ValueOf(b.Labels).Pointer() || reflect.ValueOf(a.Labels).Pointer() == reflect.ValueOf(other.Labels).Pointer() {
		t.Error("equal labels must be one map, and others another")
	}
	for _, pair := range [][2]string{{a.Node, b.Node}, {a.Namespace, b.Namespace}, {a.ServiceAccount, b.ServiceAccount}, {a.WorkloadName, b.WorkloadName}} {
		if unsafe.StringData(pair[0]) != unsafe.StringData(pair[1]) {
			t.Errorf("two strings %q", pair[0])
		}
	}
}

func TestPoolIsBounded(t *testing.T) {
	var p Pool
	for i := range 3 * maxPooled {
		pod := pooled("a")
		pod.Node, pod.Labels = fmt.Sprint("node-", i), map[string]string{"n": fmt.Sprint(i)}
		p.Share(pod)
	}
	if len(p.words) > maxPooled || len(p.labels) > maxPooled {
		t.Errorf("%d words and %d sets of labels are kept", len(p.words), len(p.labels))
	}
}
