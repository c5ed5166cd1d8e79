// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
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
		{Type: "Programmed", Status: "True", Reason: "Programmed", Listener: "web"},
		{Type: "Programmed", Status: "False", Reason: "Invalid", Listener: "odd"},
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
	o.note(g, namesakes{going: []string{"Deployment ns/g"}, staying: []string{"Service ns/g"}})
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

	listeners := func(want string) {
		t.Helper()
		got := ""
		for _, f := range o.instead(g, found) {
			if f.Listener != "" {
				got += f.Listener + " " + f.Type + " " + f.Status + "/" + f.Reason + "; "
			}
		}
		if got != want {
			t.Errorf("of listeners is said %q, want %q", got, want)
		}
	}
	listeners("web Accepted True/Accepted; web Programmed False/Pending; odd Programmed False/Invalid; ")
	if !o.note(g, namesakes{going: []string{"Service ns/g", "Deployment ns/g"}}) || o.note(g, namesakes{going: []string{"Service ns/g", "Deployment ns/g"}}) {
		t.Error("a change is noted, and nothing else")
	}
	write()
	expect("True/Accepted", "False/Pending", "True/ResolvedRefs")
	if got := message(g.Status.Conditions, "Programmed"); got != "waits for the end of Service ns/g, Deployment ns/g: an earlier Gateway's of the name, or being deleted" {
		t.Errorf("it says %q", got)
	}
	listeners("web Accepted True/Accepted; web Programmed False/Pending; odd Programmed False/Invalid; ")
	o.note(g, namesakes{})
	write()
	listeners("web Accepted True/Accepted; web Programmed True/Programmed; odd Programmed False/Invalid; ")
	expect("True/Accepted", "False/AddressNotAssigned", "True/ResolvedRefs")
	if c := meta.FindStatusCondition(g.Status.Conditions, "Accepted"); !c.LastTransitionTime.After(before.Time) {
		t.Error("it is accepted since now")
	}
}

// TestWhatIsLeftOfAnEarlierGateway has objects of a Gateway's name that are not its own.
func TestWhatIsLeftOfAnEarlierGateway(t *testing.T) {
	g := &gatewayv1.Gateway{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "g", UID: "now"}}
	for name, tc := range map[string]struct {
		owner metav1.OwnerReference
		want  bool
	}{
		"of an earlier Gateway of the name":       {metav1.OwnerReference{APIVersion: "gateway.networking.k8s.io/v1", Kind: "Gateway", Name: "g", UID: "earlier"}, true},
		"of one of an older version of the API":   {metav1.OwnerReference{APIVersion: "gateway.networking.k8s.io/v1beta1", Kind: "Gateway", Name: "g", UID: "earlier"}, true},
		"its own":                                 {metav1.OwnerReference{APIVersion: "gateway.networking.k8s.io/v1", Kind: "Gateway", Name: "g", UID: "now"}, false},
		"of another Gateway":                      {metav1.OwnerReference{APIVersion: "gateway.networking.k8s.io/v1", Kind: "Gateway", Name: "h", UID: "earlier"}, false},
		"of a route that is called the same":      {metav1.OwnerReference{APIVersion: "gateway.networking.k8s.io/v1", Kind: "HTTPRoute", Name: "g", UID: "earlier"}, false},
		"of another kind that is called the same": {metav1.OwnerReference{APIVersion: "networking.istio.io/v1", Kind: "Gateway", Name: "g", UID: "earlier"}, false},
	} {
		tc.owner.Controller = ptr.To(true)
		if got := wasMadeFor(&corev1.Service{ObjectMeta: metav1.ObjectMeta{OwnerReferences: []metav1.OwnerReference{tc.owner}}}, g); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if wasMadeFor(&corev1.Service{}, g) {
		t.Error("nobody's was not")
	}
}

// TestWhatTheAPIServerRefuses is said beside what was found, and takes nothing from what goes on.
func TestWhatTheAPIServerRefuses(t *testing.T) {
	g := &gatewayv1.Gateway{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "g", UID: "u", Generation: 3}}
	s := &gatewayv1.ListenerSet{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "s"}, Spec: gatewayv1.ListenerSetSpec{ParentRef: gatewayv1.ParentGatewayReference{Name: "g"}}}
	var o obstacles
	if !o.refuse(g, gatewayv1.GatewayReasonInvalid, "the API server refuses it", unscaled{}) || o.refuse(g, gatewayv1.GatewayReasonInvalid, "the API server refuses it", unscaled{}) {
		t.Error("a change is noted, and nothing else")
	}
	listener := translate.Finding{Type: "Programmed", Status: "True", Reason: "Programmed", Listener: "web"}
	accepted := translate.Finding{Type: "Accepted", Status: "True", Reason: "Accepted"}
	for _, tc := range []struct{ found, want translate.Finding }{
		{
			translate.Finding{Type: "Programmed", Status: "True", Reason: "Programmed", Message: "fine", Generation: 2},
			translate.Finding{Type: "Programmed", Status: "False", Reason: "Invalid", Message: "the API server refuses it", Generation: 3},
		},
		{
			translate.Finding{Type: "Programmed", Status: "False", Reason: "AddressNotUsable", Message: "not yours", Generation: 3},
			translate.Finding{Type: "Programmed", Status: "False", Reason: "AddressNotUsable", Message: "not yours; the API server refuses it", Generation: 3},
		},
	} {
		if got, want := o.instead(g, []translate.Finding{listener, accepted, tc.found}), []translate.Finding{listener, accepted, tc.want}; !slices.Equal(got, want) {
			t.Errorf("%+v\nwant %+v", got, want)
		}
	}
	programmed := translate.Finding{Type: "Programmed", Status: "True", Reason: "Programmed"}
	got := o.insteadOfSet(s, []translate.Finding{listener, accepted, programmed})
	if got[0] != listener || got[1] != accepted || got[2].Status != "False" || got[2].Reason != setParentNotProgrammed {
		t.Errorf("of a set is said %+v", got)
	}
	if !o.note(g, namesakes{}) {
		t.Error("that it is over is a change")
	}
	if got := o.instead(g, []translate.Finding{programmed}); got[0] != programmed {
		t.Errorf("it is over, and said is %+v", got)
	}
}

// TestWhatIsSaidWhileItMayNotBeSeen: what was found last in the way of a Gateway, also by an earlier process, is said until it may be looked again, and that it may not.
func TestWhatIsSaidWhileItMayNotBeSeen(t *testing.T) {
	g := &gatewayv1.Gateway{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "g", UID: "u", Generation: 1}}
	staying, going := namesakes{staying: []string{"Service ns/g"}}, namesakes{going: []string{"Service ns/g"}}
	theirs := unscaled{reasonAmbiguous, "keda does"}
	for name, tc := range map[string]struct {
		before     func(o *obstacles)
		seen       namesakes // by the look that shows a part
		accepted   string
		programmed string
		says       []string
		rivals     bool
	}{
		"nothing was":               {func(*obstacles) {}, namesakes{}, "True/Accepted", "False/NoResources", []string{"may not list"}, false},
		"nothing was in the way":    {func(o *obstacles) { o.note(g, namesakes{}) }, namesakes{}, "True/Accepted", "False/NoResources", []string{"may not list"}, false},
		"something was, and stays":  {func(o *obstacles) { o.note(g, staying) }, namesakes{}, "False/Invalid", "False/Invalid", []string{"metadata.name: Service ns/g", "may not list"}, false},
		"something is, and stays":   {func(o *obstacles) { o.note(g, going) }, staying, "False/Invalid", "False/Invalid", []string{"metadata.name: Service ns/g", "may not list"}, false},
		"something was about to go": {func(o *obstacles) { o.note(g, going) }, namesakes{}, "True/Accepted", "False/NoResources", []string{"waits for the end of Service ns/g", "may not list"}, false},
		"the API server refused something": {func(o *obstacles) {
			o.refuse(g, "Invalid", "the API server refuses the Service: spec.x is bad", unscaled{})
		}, namesakes{}, "True/Accepted", "False/Invalid", []string{"spec.x is bad", "may not list"}, false},
		"what was kept is not made again": {func(o *obstacles) {
			o.refuse(g, gatewayv1.GatewayReasonPending, notMadeAgain+staying.text(), unscaled{})
		}, namesakes{}, "True/Accepted", "False/Pending", []string{"is not made again: metadata.name: Service ns/g", "may not list"}, false},
		"and others scale it": {func(o *obstacles) {
			o.refuse(g, "Invalid", "the API server refuses the Service: spec.x is bad", theirs)
		}, namesakes{}, "True/Accepted", "False/Invalid", []string{"spec.x is bad", "may not list"}, true},
		"something was, and others scale it": {func(o *obstacles) { o.note(g, namesakes{rivals: theirs}); o.note(g, staying) }, namesakes{}, "False/Invalid", "False/Invalid", []string{"Service ns/g", "may not list"}, true},
	} {
		for process, restarts := range map[string]int{"the same process": 0, "the next one": 1, "the one after that": 2} {
			t.Run(name+", "+process, func(t *testing.T) {
				g, o := g.DeepCopy(), &obstacles{}
				found := []translate.Finding{{Type: "Accepted", Status: "True", Reason: "Accepted"}, {Type: "Programmed", Status: "True", Reason: "Programmed"}}
				write := func() { applyFindings(&g.Status.Conditions, o.instead(g, found), g.Generation, gatewayTypes...) }
				hide := func() (changed bool) {
					return o.hide(g, tc.seen, gatewayv1.GatewayReasonNoResources, "it may not list Deployments")
				}
				tc.before(o)
				for range restarts {
					write()
					o = &obstacles{}
					hide()
				}
				for range 2 {
					hide()
					write()
					if a, p := verdict(g.Status.Conditions, 1, "Accepted"), verdict(g.Status.Conditions, 1, "Programmed"); a != tc.accepted || p != tc.programmed {
						t.Errorf("it is said to be %s and %s, want %s and %s", a, p, tc.accepted, tc.programmed)
					}
					for _, words := range tc.says {
						if said := message(g.Status.Conditions, "Programmed"); strings.Count(said, words) != 1 {
							t.Errorf("%q does not say %q once", said, words)
						}
					}
					if is := meta.FindStatusCondition(g.Status.Conditions, conditionScaled) != nil; is != tc.rivals {
						t.Errorf("that others scale it is said: %v", is)
					}
				}
				if hide() {
					t.Error("the same is news")
				}
				if !o.note(g, namesakes{}) {
					t.Error("that it is over is none")
				}
			})
		}
	}
}

// TestWhatAnEarlierProcessSaid has a process that has just begun to lead look at a Gateway of which an earlier one said something. It finds nothing in the way, and the API server does not answer all that it is asked
// then: what was in the way is not said any more, and what was refused is.
func TestWhatAnEarlierProcessSaid(t *testing.T) {
	for said, want := range map[string]string{
		"metadata.name: Service ns/g exists and was not made for this Gateway: rename one of them":     "True/Programmed",
		"waits for the end of Service ns/g: an earlier Gateway's of the name, or being deleted":        "True/Programmed",
		"no pod behind Service ns/g is ready, so other clusters do not use the gateway":                "True/Programmed",
		"the API server refuses the Service: spec.x is bad":                                            "False/Invalid",
		"Service ns/g has no address yet; the API server refuses the Deployment: the quota is used up": "False/Invalid",
	} {
		g := &gatewayv1.Gateway{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "g", UID: "u", Generation: 1}}
		g.Status.Conditions = []metav1.Condition{{Type: "Programmed", Status: "False", Reason: "Invalid", Message: said, ObservedGeneration: 1}}
		var o obstacles
		if !o.tried(g) {
			t.Errorf("%s: who writes the status is not told", said)
		}
		applyFindings(&g.Status.Conditions, o.instead(g, []translate.Finding{{Type: "Programmed", Status: "True", Reason: "Programmed"}}), 1, "Programmed")
		if got := verdict(g.Status.Conditions, 1, "Programmed"); got != want {
			t.Errorf("%s: it is said to be %s, want %s", said, got, want)
		}
		if _, refused, is := strings.Cut(said, "; "); is && message(g.Status.Conditions, "Programmed") != refused {
			t.Errorf("%s: it says %q, want %q", said, message(g.Status.Conditions, "Programmed"), refused)
		}
	}
}
