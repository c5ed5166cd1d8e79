// SPDX-License-Identifier: Apache-2.0

//go:build netns

package agent

import (
	"net/http"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	kubetesting "k8s.io/client-go/testing"
)

// deafen has the agent that starts next hear of no change of pods or namespaces: its watches are open, and silent.
func (n *node) deafen() {
	n.t.Helper()
	n.client.(*fake.Clientset).PrependWatchReactor("*", func(kubetesting.Action) (bool, watch.Interface, error) {
		w := watch.NewFake()
		return true, w, nil
	})
}

// A pod that the runtime announces, and of which the watch has not told the agent, is in the mesh all the same until it is gone; be there another one of that name that the watch believes to exist.
func TestPodThatTheWatchDoesNotKnow(t *testing.T) {
	for _, former := range []bool{false, true} {
		name := map[bool]string{false: "new", true: "in the place of another"}[former]
		t.Run(name, func(t *testing.T) {
			n := newNode(t, namespace("shop", modeAmbient))
			pods := n.client.CoreV1().Pods("shop")
			if former {
				n.pod(1, "10.1.0.9", map[string]string{labelMode: modeNone})
			}
			n.deafen()
			n.start()
			p, _ := n.startProxy()
			n.until("the snapshot", func() bool { return p.snapshots() == 1 })
			if former {
				if err := pods.Delete(t.Context(), "cart-1", metav1.DeleteOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart-1", UID: types.UID(uidOf(2))}, Spec: corev1.PodSpec{NodeName: "n1"}}
			if _, err := pods.Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			sandbox := n.sandbox("10.1.0.1")
			if code, why := n.announce(pod, sandbox, "10.1.0.1"); code != http.StatusOK {
				t.Fatalf("answered %d: %s", code, why)
			}
			// The annotation comes with the first look at the pod after its start.
			n.until("the annotation", func() bool { return n.annotation(pod) == redirectionEnabled })
			deleteTable(t, sandbox, "isthmus-nat")
			n.until("the rules to be put right", func() bool { return tables(t, sandbox) == allTables })
			if !p.served(pod) || probed(t) != "10.1.0.1" {
				t.Errorf("served %v, probes pass to %q", p.served(pod), probed(t))
			}
			// Its successor runs on another node.
			if err := pods.Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			elsewhere := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart-1", UID: types.UID(uidOf(3))}, Spec: corev1.PodSpec{NodeName: "n2"},
				Status: corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: "10.2.0.1"}}}}
			if _, err := pods.Create(t.Context(), elsewhere, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			n.until("the pod to be forgotten", func() bool { return !p.served(pod) && probed(t) == "" })
			if why := n.event("Pod", elsewhere.Name, reasonCaptureFailed); why != "" {
				t.Errorf("about the pod on another node: %s", why)
			}
		})
	}
}

// A label that was set while the watch is silent counts for the pods that start.
func TestNamespaceThatTheWatchDoesNotKnow(t *testing.T) {
	n := newNode(t, namespace("shop", ""))
	n.deafen()
	n.start()
	p, _ := n.startProxy()
	n.until("the snapshot", func() bool { return p.snapshots() == 1 })
	patch := []byte(`{"metadata":{"labels":{"` + labelMode + `":"ambient"}}}`)
	if _, err := n.client.CoreV1().Namespaces().Patch(t.Context(), "shop", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	pod, sandbox := n.pod(1, "", nil), n.sandbox("10.1.0.1")
	if code, why := n.announce(pod, sandbox, "10.1.0.1"); code != http.StatusOK || tables(t, sandbox) != allTables || !p.served(pod) {
		t.Errorf("answered %d: %s; tables %q, served %v", code, why, tables(t, sandbox), p.served(pod))
	}
	n.until("the annotation", func() bool { return n.annotation(pod) == redirectionEnabled })
}
