// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// nodeLook is how often the node's own rules are looked at. Others change the node's tables all the time, so that listening to the
	// kernel would wake us more often. The kubelet forgives a probe or two that fail meanwhile.
	nodeLook = 5 * time.Second
	// podsLook is how often all pods' rules are looked at although the kernel told of no change. A look takes some 4 ms.
	podsLook = 5 * time.Minute
)

// Reasons of Events on pods, and on the node. Their messages say why, or what.
const (
	reasonStartBlocked  = "StartBlocked"    // the pod may not start now; it is tried again
	reasonCaptureFailed = "CaptureFailed"   // the running pod should be in the mesh and cannot; it is tried again
	reasonNotServed     = "NotServed"       // the pod is captured and no proxy serves it: its connections are refused
	reasonRepaired      = "CaptureRepaired" // somebody changed rules, and they were put right
)

// maintain keeps a captured pod's rules as they should be, and says so when somebody else had changed them.
func (p *pods) maintain(pod *corev1.Pod) error {
	damage, err := p.enrolment.maintain(pod)
	switch {
	case damage != "" && err != nil:
		p.events.Eventf(pod, corev1.EventTypeWarning, reasonCaptureFailed, "somebody changed how the pod's traffic is captured (%s), and it cannot be put right: %v", damage, err)
	case damage != "":
		p.metrics.repairs.WithLabelValues("pod").Inc()
		p.log.Info("rules of a pod repaired", "workload", pod.Namespace+"/"+pod.Name, "damage", damage)
		p.events.Eventf(pod, corev1.EventTypeWarning, reasonRepaired, "somebody changed how the pod's traffic is captured (%s); it is put right", damage)
	}
	return err
}

// watchRules looks at what no notification covers, until ctx ends.
func (p *pods) watchRules(ctx context.Context) {
	node, all := time.NewTicker(nodeLook), time.NewTicker(podsLook)
	defer node.Stop()
	defer all.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-node.C:
			p.maintainNode()
		case <-all.C:
			p.enrolment.suspectAll()
		}
	}
}

func (p *pods) maintainNode() {
	damage, err := p.enrolment.probes.Repair()
	switch {
	case err != nil:
		p.log.Error(err, "the node's rules for probes", "damage", damage)
	case damage != "":
		p.metrics.repairs.WithLabelValues("node").Inc()
		p.log.Info("rules of the node repaired", "damage", damage)
		// As the kubelet does it: a node's events carry its name for a uid.
		node := &corev1.ObjectReference{Kind: "Node", Name: p.node, UID: types.UID(p.node)}
		p.events.Eventf(node, corev1.EventTypeWarning, reasonRepaired, "somebody changed the rules by which the kubelet's probes reach pods of the mesh (%s); they are put right", damage)
	}
}
