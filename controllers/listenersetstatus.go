// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
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
func newListenerSetStatus(c client.Client, p findings, inTheWay *obstacles, ready <-chan struct{}) *statusWriter {
	return &statusWriter{
		name: "listenerset-status", client: c, ready: ready, empty: func() client.Object { return &gatewayv1.ListenerSet{} },
		fill: func(_ context.Context, o client.Object) time.Duration {
			fillListenerSet(o.(*gatewayv1.ListenerSet), p, inTheWay)
			return 0
		},
	}
}

// fillListenerSet says what became of a set. Where it is not known to be ours, what is said of it stays, unless we said it ourselves: of one that has another
// controller's Gateway now that is taken back, and one whose Gateway is gone waits for another one. It stays, too, until it is known what is in its Gateway's way.
func fillListenerSet(s *gatewayv1.ListenerSet, p findings, inTheWay *obstacles) {
	all := p.Findings(world.KindListenerSet, s.Namespace, s.Name)
	switch {
	case len(all) == 0:
		takeBack(s)
	case waits(all) && !wroteCondition(s, setTypes[0]): // without a Gateway it is nobody's
	case inTheWay.unknown(p, parentOf(s)):
	default:
		reportListenerSet(s, p, inTheWay.insteadOfSet(s, all))
	}
}

// parentOf names the Gateway that a set is for; zero: it is for something else.
func parentOf(s *gatewayv1.ListenerSet) types.NamespacedName {
	of := world.ReduceListenerSet("", s).Gateway
	return types.NamespacedName{Namespace: of.Namespace, Name: of.Name}
}

// takeBack removes what we said, of which the API has words of its own.
func takeBack(s *gatewayv1.ListenerSet) {
	taken := false
	for _, t := range setTypes {
		if wroteCondition(s, t) {
			meta.RemoveStatusCondition(&s.Status.Conditions, t)
			taken = true
		}
	}
	if taken {
		s.Status.Listeners = nil
	}
}

// reportListenerSet writes what was found.
func reportListenerSet(s *gatewayv1.ListenerSet, p findings, all []translate.Finding) {
	applyFindings(&s.Status.Conditions, all, s.Generation, setTypes...)
	states := p.Listeners(world.KindListenerSet, s.Namespace, s.Name)
	if len(states) == 0 {
		s.Status.Listeners = nil // nobody looked at them
		return
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
}

// waits says whether nothing is known but that something is missing.
func waits(found []translate.Finding) bool {
	return !slices.ContainsFunc(found, func(f translate.Finding) bool { return f.Status != string(metav1.ConditionUnknown) })
}
