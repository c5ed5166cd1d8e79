// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/translate"
)

// obstacles are the objects of somebody else's that keep Gateways from being provisioned. Who provisions notes them, and who writes the status says so.
type obstacles struct {
	mu sync.Mutex
	of map[types.NamespacedName]obstacle
}

type obstacle struct {
	uid   types.UID // of the Gateway
	text  string
	stays bool // somebody has to do something about it
}

// note says whether something else than before is in a Gateway's way.
func (o *obstacles) note(gateway client.Object, theirs namesakes) (changed bool) {
	now := obstacle{gateway.GetUID(), theirs.text(), len(theirs.staying) > 0}
	o.mu.Lock()
	defer o.mu.Unlock()
	name := client.ObjectKeyFromObject(gateway)
	was, had := o.of[name]
	if now.text == "" {
		delete(o.of, name)
		return had
	}
	if o.of == nil {
		o.of = map[types.NamespacedName]obstacle{}
	}
	o.of[name] = now
	return was != now
}

// forget is for a Gateway that is gone.
func (o *obstacles) forget(name types.NamespacedName) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.of, name)
}

// instead is what is said of a Gateway and its listeners: what was found of it, unless something is in its way, when nothing of it is programmed. What is about to go makes it no
// less acceptable. One condition is written once, as its time moves with every change of its status.
func (o *obstacles) instead(g *gatewayv1.Gateway, findings []translate.Finding) []translate.Finding {
	o.mu.Lock()
	found := o.of[client.ObjectKeyFromObject(g)]
	o.mu.Unlock()
	if found.text == "" || found.uid != g.UID {
		return findings
	}
	programmed := string(gatewayv1.GatewayConditionProgrammed)
	blocked, reason := []string{programmed}, gatewayv1.GatewayReasonPending
	if found.stays {
		blocked, reason = append(blocked, string(gatewayv1.GatewayConditionAccepted)), gatewayv1.GatewayReasonInvalid
	}
	out := slices.DeleteFunc(slices.Clone(findings), func(f translate.Finding) bool { return f.Listener == "" && slices.Contains(blocked, f.Type) })
	for i := range out {
		if l := &out[i]; l.Type == programmed && l.Status == string(metav1.ConditionTrue) { // a listener's
			l.Status, l.Reason, l.Message = string(metav1.ConditionFalse), string(gatewayv1.ListenerReasonPending), "the Gateway is not provisioned: "+found.text
		}
	}
	for _, kind := range blocked {
		out = append(out, translate.Finding{
			Type: kind, Status: string(metav1.ConditionFalse), Reason: string(reason), Message: found.text, Generation: g.Generation,
		})
	}
	return out
}
