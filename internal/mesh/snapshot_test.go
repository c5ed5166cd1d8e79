// SPDX-License-Identifier: Apache-2.0

package mesh

import (
	"reflect"
	"testing"
)

func TestDiffThenApplyIsIdentity(t *testing.T) {
	before, after := NewSnapshot(), NewSnapshot()
	before.Workloads["gone"] = &Workload{UID: "gone"}
	before.Workloads["same"] = &Workload{UID: "same", Capacity: 1}
	before.Workloads["changed"] = &Workload{UID: "changed", Capacity: 1}
	before.Gateways[GatewayKey{"a", "b"}] = &Gateway{Namespace: "a", Name: "b"}
	after.Workloads["same"] = &Workload{UID: "same", Capacity: 1}
	after.Workloads["changed"] = &Workload{UID: "changed", Capacity: 2}
	after.Workloads["new"] = &Workload{UID: "new"}
	after.Services[ServiceKey{"n", "h"}] = &Service{Namespace: "n", Hostname: "h"}
	after.Policies["n/p"] = &Policy{Namespace: "n", Name: "p"}

	d := Diff(before, after)
	if got, want := d.Len(), 6; got != want {
		t.Errorf("delta has %d keys, want %d: equal values must not be in it", got, want)
	}
	kept := before.Clone()
	before.Apply(d)
	if !reflect.DeepEqual(before, after) {
		t.Errorf("applied:\n%v\nwant:\n%v", before, after)
	}
	if _, ok := kept.Workloads["gone"]; !ok {
		t.Error("Apply changed a clone")
	}
	if !Diff(after, before).Empty() {
		t.Error("equal snapshots differ")
	}
}
