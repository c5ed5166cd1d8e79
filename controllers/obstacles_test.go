// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/translate"
)

// TestObstacleIsSaidOnce has the conditions of a Gateway written again and again while the same is in its way.
func TestObstacleIsSaidOnce(t *testing.T) {
	g := &gatewayv1.Gateway{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "g", UID: "u", Generation: 1}}
	found := []translate.Finding{
		{Type: "Accepted", Status: "True", Reason: "Accepted", Message: "the Gateway is served"},
		{Type: "Programmed", Status: "False", Reason: "AddressNotAssigned", Message: "no address yet"},
		{Type: "ResolvedRefs", Status: "True", Reason: "ResolvedRefs"},
		{Type: "Accepted", Status: "True", Reason: "Accepted", Listener: "web"},
	}
	var o obstacles
	write := func() { applyFindings(&g.Status.Conditions, o.instead(g, found), g.Generation, gatewayTypes...) }
	expect := func(verdicts ...string) {
		t.Helper()
		for i, kind := range []string{"Accepted", "Programmed", "ResolvedRefs"} {
			if got := verdict(g.Status.Conditions, g.Generation, kind); got != verdicts[i] {
				t.Errorf("%s is %s, want %s", kind, got, verdicts[i])
			}
		}
	}
	write()
	expect("True/Accepted", "False/AddressNotAssigned", "True/ResolvedRefs")
	o.note(g, "Service ns/g exists and was not made for this Gateway: rename one of them")
	write()
	expect("False/Invalid", "False/Invalid", "True/ResolvedRefs")
	if got := message(g.Status.Conditions, "Accepted"); got != "metadata.name: Service ns/g exists and was not made for this Gateway: rename one of them" {
		t.Errorf("it says %q", got)
	}

	before := metav1.NewTime(time.Now().Add(-time.Hour).Truncate(time.Second))
	for i := range g.Status.Conditions {
		g.Status.Conditions[i].LastTransitionTime = before
	}
	write()
	for _, c := range g.Status.Conditions {
		if !c.LastTransitionTime.Equal(&before) {
			t.Errorf("%s has been %s for an hour, and says since %v", c.Type, c.Status, c.LastTransitionTime)
		}
	}

	if got := o.instead(g, found); len(got) != 4 || got[1].Listener != "web" {
		t.Errorf("what was found of listeners stays: %+v", got)
	}
	o.note(g)
	write()
	expect("True/Accepted", "False/AddressNotAssigned", "True/ResolvedRefs")
	if c := meta.FindStatusCondition(g.Status.Conditions, "Accepted"); !c.LastTransitionTime.After(before.Time) {
		t.Error("it is accepted since now")
	}
}
