// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/translate"
)

// Conditions that an obstacle is said in, and the reason on a ListenerSet that the API describes and has no constant for.
const (
	conditionAccepted, conditionProgrammed = string(gatewayv1.GatewayConditionAccepted), string(gatewayv1.GatewayConditionProgrammed)

	setParentNotProgrammed = "ParentNotProgrammed"
)

// obstacles are what keeps Gateways from being provisioned: objects of somebody else's, or that the API server does not take what is asked of it. Who provisions notes them, and who
// writes the status says so. They are looked for anew by each process that leads; what one before it said of a Gateway stays until that was done.
type obstacles struct {
	mu sync.Mutex
	of map[types.NamespacedName]obstacle // of each Gateway that was looked at; without a text: nothing is in its way
}

type obstacle struct {
	uid   types.UID // of the Gateway
	text  string
	stays bool // somebody has to do something about it
	// rivals is what is said of autoscalers that undo what is said of the Gateway.
	rivals unscaled
	// refused is why, if it is the API server that does not take what is asked. What was made before goes on then.
	refused gatewayv1.GatewayConditionReason
	// unseen is why it may not be looked what is in the way. The text is what was seen, then or before.
	unseen string
}

// said is all that is said of it.
func (o obstacle) said() string {
	if o.text != "" && o.unseen != "" {
		return o.text + notAllSeen + o.unseen
	}
	return o.text + o.unseen
}

// By these words what is in a Gateway's way is known again in what an earlier process said.
const (
	inTheName   = "metadata.name: "
	whyStays    = " exists and was not made for this Gateway: rename one of them"
	waitsForEnd = "waits for the end of "
	refuses     = "the API server refuses the "
	notAllSeen  = "; it cannot all be seen: "
	// notMadeAgain is before what is in the way of pods that are kept.
	notMadeAgain = "the Deployment that was made for the Gateway is gone and is not made again: "
)

// saidBefore is what was in a Gateway's way when its status was written last; without a text: that says nothing of it.
func saidBefore(g *gatewayv1.Gateway) obstacle {
	c := meta.FindStatusCondition(g.Status.Conditions, conditionProgrammed)
	if c == nil || c.Status != metav1.ConditionFalse {
		return obstacle{uid: g.UID}
	}
	text, _, _ := strings.Cut(c.Message, notAllSeen)
	for _, word := range []string{notMadeAgain, refuses} {
		if _, refused, is := strings.Cut(text, word); is { // behind what was found
			return obstacle{uid: g.UID, text: word + refused, refused: gatewayv1.GatewayConditionReason(c.Reason)}
		}
	}
	switch {
	case strings.HasPrefix(text, inTheName) && strings.HasSuffix(text, whyStays):
		return obstacle{uid: g.UID, text: text, stays: true}
	case strings.HasPrefix(text, waitsForEnd):
		return obstacle{uid: g.UID, text: text}
	}
	return obstacle{uid: g.UID}
}

// note says whether something else than before is in a Gateway's way. While something is, nobody looks for other autoscalers: what was said of them stands.
func (o *obstacles) note(gateway *gatewayv1.Gateway, theirs namesakes) (changed bool) {
	now := obstacleOf(gateway, theirs)
	if now.text != "" {
		now.rivals = o.rivals(gateway)
	}
	return o.set(gateway, now)
}

func obstacleOf(gateway *gatewayv1.Gateway, theirs namesakes) obstacle {
	return obstacle{uid: gateway.UID, text: theirs.text(), stays: len(theirs.staying) > 0, rivals: theirs.rivals}
}

// refuse is note for what the API server says to what a Gateway needs, and what was found of other autoscalers.
func (o *obstacles) refuse(gateway *gatewayv1.Gateway, reason gatewayv1.GatewayConditionReason, text string, rivals unscaled) (changed bool) {
	return o.set(gateway, obstacle{uid: gateway.UID, text: text, refused: reason, rivals: rivals})
}

// hide is note for a Gateway of which it may not all be looked what is in its way. If what may be looked at is not, what was there before may be there still, and is said.
func (o *obstacles) hide(gateway *gatewayv1.Gateway, theirs namesakes, reason gatewayv1.GatewayConditionReason, text string) (changed bool) {
	now := obstacleOf(gateway, theirs)
	if now.text == "" {
		now = o.last(gateway)
	}
	now.unseen, now.rivals = text, o.rivals(gateway)
	if !now.stays && now.refused == "" { // what goes would pass by itself
		now.refused = reason
	}
	return o.set(gateway, now)
}

// last is what was in the way of a Gateway when that was looked at last, also by an earlier process.
func (o *obstacles) last(gateway *gatewayv1.Gateway) obstacle {
	name := client.ObjectKeyFromObject(gateway)
	if !o.looked(name, gateway.UID) {
		return saidBefore(gateway)
	}
	found, _ := o.before(name)
	return found
}

func (o *obstacles) set(gateway client.Object, now obstacle) (changed bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	name := client.ObjectKeyFromObject(gateway)
	was, had := o.of[name]
	if o.of == nil {
		o.of = map[types.NamespacedName]obstacle{}
	}
	o.of[name] = now
	return !had || was != now
}

// tried is for a Gateway that nothing is in the way of, and that could not be provisioned all the same: what was noted before stands, if anything was, and so does what the API server refused an earlier process.
func (o *obstacles) tried(gateway *gatewayv1.Gateway) (changed bool) {
	if o.looked(client.ObjectKeyFromObject(gateway), gateway.GetUID()) {
		return false
	}
	now := saidBefore(gateway)
	if now.refused == "" { // what was in the way has gone
		now = obstacle{uid: gateway.UID}
	}
	now.rivals = o.rivals(gateway)
	return o.set(gateway, now)
}

// forget is for a Gateway that is gone, or for which nothing is to be made now. It says whether something was in its way.
func (o *obstacles) forget(name types.NamespacedName) (changed bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	was := o.of[name]
	delete(o.of, name)
	return was.said() != "" || was.rivals != (unscaled{})
}

// rivals is what was said last of other autoscalers that scale a Gateway, also by an earlier process.
func (o *obstacles) rivals(gateway *gatewayv1.Gateway) unscaled {
	if name := client.ObjectKeyFromObject(gateway); o.looked(name, gateway.UID) {
		found, _ := o.before(name)
		return found.rivals
	}
	if c := meta.FindStatusCondition(gateway.Status.Conditions, conditionScaled); c != nil && c.Status == metav1.ConditionFalse {
		return unscaled{c.Reason, c.Message}
	}
	return unscaled{}
}

// looked says whether it was looked what is in the way of a Gateway.
func (o *obstacles) looked(gateway types.NamespacedName, uid types.UID) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	found, did := o.of[gateway]
	return did && found.uid == uid
}

// unknown says that something is to be made for a Gateway, and nobody has looked yet what is in its way.
func (o *obstacles) unknown(p findings, gateway types.NamespacedName) bool {
	plan := p.Plan(gateway.Namespace, gateway.Name)
	return plan != nil && !o.looked(gateway, types.UID(plan.UID))
}

// before is what is in the way of a Gateway.
func (o *obstacles) before(gateway types.NamespacedName) (found obstacle, any bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	found = o.of[gateway]
	return found, found.said() != ""
}

// instead is what is said of a Gateway and its listeners: what was found of it, unless something is in its way, when nothing of it is programmed. What is about to go makes it no
// less acceptable. One condition is written once, as its time moves with every change of its status.
func (o *obstacles) instead(g *gatewayv1.Gateway, findings []translate.Finding) []translate.Finding {
	found, any := o.before(client.ObjectKeyFromObject(g))
	if r := found.rivals; r != (unscaled{}) && found.uid == g.UID {
		findings = append(slices.Clone(findings), translate.Finding{Type: conditionScaled, Status: string(metav1.ConditionFalse), Reason: r.reason, Message: r.message, Generation: g.Generation})
	}
	if !any || found.uid != g.UID {
		return findings
	}
	if found.refused != "" {
		return notAsAsked(g, findings, found)
	}
	blocked, reason := []string{conditionProgrammed}, gatewayv1.GatewayReasonPending
	if found.stays {
		blocked, reason = append(blocked, conditionAccepted), gatewayv1.GatewayReasonInvalid
	}
	out := slices.DeleteFunc(slices.Clone(findings), func(f translate.Finding) bool { return f.Listener == "" && slices.Contains(blocked, f.Type) })
	unprogram(out, "the Gateway is not provisioned: "+found.said())
	for _, kind := range blocked {
		out = append(out, translate.Finding{
			Type: kind, Status: string(metav1.ConditionFalse), Reason: string(reason), Message: found.said(), Generation: g.Generation,
		})
	}
	return out
}

// notAsAsked is what is said of a Gateway that the API server refuses a part of: what was found, which may well be the reason, and that.
func notAsAsked(g *gatewayv1.Gateway, findings []translate.Finding, found obstacle) []translate.Finding {
	out := slices.Clone(findings)
	for i := range out {
		f := &out[i]
		switch {
		case f.Listener != "" || f.Type != conditionProgrammed:
		case f.Status == string(metav1.ConditionTrue):
			f.Status, f.Reason, f.Message, f.Generation = string(metav1.ConditionFalse), string(found.refused), found.said(), g.Generation
		default:
			f.Message += "; " + found.said()
		}
	}
	return out
}

// insteadOfSet is what is said of a ListenerSet and its listeners, as instead is. What is in the way is not named to who may not see it.
func (o *obstacles) insteadOfSet(s *gatewayv1.ListenerSet, findings []translate.Finding) []translate.Finding {
	parent := parentOf(s)
	found, any := o.before(parent)
	if !any {
		return findings
	}
	reason, message := setParentNotProgrammed, fmt.Sprintf("Gateway %s waits for something to go that has its name; see its conditions", parent)
	switch {
	case found.refused != "":
		message = fmt.Sprintf("Gateway %s is not as it is asked for; see its conditions", parent)
	case found.stays:
		reason, message = string(gatewayv1.ListenerSetReasonParentNotAccepted), fmt.Sprintf("Gateway %s is not accepted; see its conditions", parent)
	}
	out := slices.Clone(findings)
	if found.refused == "" {
		unprogram(out, message)
	}
	accepted := slices.ContainsFunc(out, func(f translate.Finding) bool {
		return f.Listener == "" && f.Type == conditionAccepted && f.Status == string(metav1.ConditionTrue)
	})
	for i := range out {
		if f := &out[i]; accepted && f.Listener == "" && (f.Type == conditionProgrammed || found.stays) {
			f.Status, f.Reason, f.Message = string(metav1.ConditionFalse), reason, message
		}
	}
	return out
}

// unprogram says of the listeners among findings that are programmed that they are not yet.
func unprogram(findings []translate.Finding, message string) {
	for i := range findings {
		if l := &findings[i]; l.Listener != "" && l.Type == conditionProgrammed && l.Status == string(metav1.ConditionTrue) {
			l.Status, l.Reason, l.Message = string(metav1.ConditionFalse), string(gatewayv1.ListenerReasonPending), message
		}
	}
}
