// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// setTypes are the condition types of a ListenerSet that we own.
var setTypes = []string{string(gatewayv1.ListenerSetConditionAccepted), string(gatewayv1.ListenerSetConditionProgrammed)}

// newListenerSetStatus writes what became of ListenerSets whose Gateways are ours. Until ready is closed it is not known which these are, so nothing is written.
func newListenerSetStatus(c client.Client, p findings, ready <-chan struct{}) *statusWriter {
	w := said{}
	return &statusWriter{
		name: "listenerset-status", client: c, ready: ready, gone: func(k types.NamespacedName) { delete(w, k) }, empty: func() client.Object { return &gatewayv1.ListenerSet{} },
		fill: func(o client.Object) time.Duration {
			w.fill(o.(*gatewayv1.ListenerSet), p)
			return 0
		},
	}
}

// said is what we said of ListenerSets. It is the status writer's, which looks at one after the other.
type said map[types.NamespacedName][]metav1.Condition

// fill says what became of a set. Of one that has another controller's Gateway now it takes back what it said, unless that one said something else already.
func (w said) fill(s *gatewayv1.ListenerSet, p findings) {
	k := client.ObjectKeyFromObject(s)
	all := p.Findings(world.KindListenerSet, s.Namespace, s.Name)
	if len(all) > 0 {
		if fillListenerSet(s, p, all) {
			w[k] = slices.Clone(s.Status.Conditions)
		} else {
			delete(w, k)
		}
		return
	}
	taken := false
	for _, t := range setTypes {
		c, ours := meta.FindStatusCondition(s.Status.Conditions, t), meta.FindStatusCondition(w[k], t)
		if c == nil || ours == nil || c.Status != ours.Status || c.Reason != ours.Reason || c.Message != ours.Message || c.ObservedGeneration != ours.ObservedGeneration {
			continue // its Gateway never was ours, or it was not looked at yet
		}
		meta.RemoveStatusCondition(&s.Status.Conditions, t)
		taken = true
	}
	if taken {
		s.Status.Listeners = nil
	}
}

// fillListenerSet writes what was found, and says whether it did.
func fillListenerSet(s *gatewayv1.ListenerSet, p findings, all []translate.Finding) bool {
	if waits(all) && isPending(s.Status.Conditions) {
		return false // without a Gateway it is nobody's: another controller may say the same in its own words
	}
	applyFindings(&s.Status.Conditions, all, s.Generation, setTypes...)
	states := p.Listeners(world.KindListenerSet, s.Namespace, s.Name)
	if len(states) == 0 {
		s.Status.Listeners = nil // nobody looked at them
		return true
	}
	var listeners []gatewayv1.ListenerEntryStatus
	for _, l := range s.Spec.Listeners {
		entry := gatewayv1.ListenerEntryStatus{Name: l.Name}
		if i := slices.IndexFunc(s.Status.Listeners, func(s gatewayv1.ListenerEntryStatus) bool { return s.Name == l.Name }); i >= 0 {
			entry.Conditions = s.Status.Listeners[i].Conditions
		}
		entry.SupportedKinds, entry.AttachedRoutes = listenerState(states, string(l.Name))
		applyListener(&entry.Conditions, all, string(l.Name), s.Generation)
		listeners = append(listeners, entry)
	}
	s.Status.Listeners = listeners
	return true
}

// waits says whether nothing is known but that something is missing.
func waits(found []translate.Finding) bool {
	return !slices.ContainsFunc(found, func(f translate.Finding) bool { return f.Status != string(metav1.ConditionUnknown) })
}

func isPending(conditions []metav1.Condition) bool {
	c := meta.FindStatusCondition(conditions, setTypes[0])
	return c == nil || c.Status == metav1.ConditionUnknown
}
