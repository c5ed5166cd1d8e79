// SPDX-License-Identifier: Apache-2.0

//go:build netns

package agent

import (
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// delete tells a pod to end, as the API server does while its containers run.
func (n *node) delete(pod *corev1.Pod) {
	n.t.Helper()
	pods := n.client.CoreV1().Pods(pod.Namespace)
	p, err := pods.Get(n.t.Context(), pod.Name, metav1.GetOptions{})
	if err != nil {
		n.t.Fatal(err)
	}
	p.DeletionTimestamp = new(metav1.Now())
	if _, err := pods.Update(n.t.Context(), p, metav1.UpdateOptions{}); err != nil {
		n.t.Fatal(err)
	}
}

// A pod that is told to end is served as before, and every proxy knows: the one that is there, the next one, and those that hear of it from the next agent.
func TestProxiesHearThatAPodTerminates(t *testing.T) {
	n := newNode(t, namespace("shop", modeAmbient))
	pod, stays := n.pod(1, "10.1.0.1", nil), n.pod(2, "10.1.0.2", nil)
	sandbox := n.sandbox("10.1.0.1")
	n.process(uidOf(1), sandbox)
	n.process(uidOf(2), n.sandbox("10.1.0.2"))
	stop := n.start()
	first, stopFirst := n.startProxy()
	n.until("the pods to be served", func() bool {
		return first.served(pod) && first.served(stays) && n.annotation(pod) == redirectionEnabled
	})
	if first.terminating(pod) {
		t.Fatal("a pod terminates that was not told to")
	}

	n.delete(pod)
	n.until("the proxy to hear of it", func() bool { return first.terminating(pod) })
	second, _ := n.startProxy()
	n.until("the second proxy to hear of it", func() bool { return second.terminating(pod) })
	stop()
	stopFirst()
	n.start()
	third, _ := n.startProxy()
	n.until("a proxy to hear of it from the next agent", func() bool { return third.terminating(pod) && third.served(stays) })
	if third.terminating(stays) || tables(t, sandbox) != allTables || n.annotation(pod) != redirectionEnabled {
		t.Errorf("another pod terminates: %v; tables %q, annotation %q", third.terminating(stays), tables(t, sandbox), n.annotation(pod))
	}
}

// A pod that is told to end while there is no proxy is one that terminates for the next one.
func TestPodTerminatesWithoutAProxy(t *testing.T) {
	n := newNode(t, namespace("shop", modeAmbient))
	pod := n.pod(1, "10.1.0.1", nil)
	n.process(uidOf(1), n.sandbox("10.1.0.1"))
	n.start()
	first, stopFirst := n.startProxy()
	n.until("the pod to be served", func() bool { return first.served(pod) && n.annotation(pod) == redirectionEnabled })
	stopFirst()
	n.delete(pod)
	n.until("the agent to know", func() bool {
		next, stop := n.startProxy()
		defer stop()
		n.until("the next proxy's snapshot", func() bool { return next.snapshots() == 1 })
		return next.terminating(pod)
	})
	if got := n.annotation(pod); got != redirectionEnabled {
		t.Errorf("annotation %q", got)
	}
}

// A pod that is served goes on so if its proxy does not take the news of its end: nobody is told that its connections are refused.
func TestEndThatAProxyDoesNotTake(t *testing.T) {
	n := newNode(t, namespace("shop", modeAmbient))
	pod := n.pod(1, "10.1.0.1", nil)
	n.process(uidOf(1), n.sandbox("10.1.0.1"))
	n.start()
	p, _ := n.startProxy()
	n.until("the pod to be served", func() bool { return p.served(pod) && n.annotation(pod) == redirectionEnabled })
	p.setRefuse(errors.New("no room"))
	n.delete(pod)
	n.until("the proxy to be told", func() bool { return p.refusals() > 0 })
	other := n.pod(2, "10.1.0.2", nil) // its event comes after those of the first one
	n.process(uidOf(2), n.sandbox("10.1.0.2"))
	n.until("the event of a pod that is not served", func() bool { return n.event("Pod", other.Name, reasonNotServed) != "" })
	if got := n.event("Pod", pod.Name, reasonNotServed); strings.Contains(got, "no room") {
		t.Errorf("event %q", got)
	}
	p.setRefuse(nil)
	n.until("the proxy to hear of it", func() bool { return p.terminating(pod) })
}
