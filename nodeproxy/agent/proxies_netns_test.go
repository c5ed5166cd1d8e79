// SPDX-License-Identifier: Apache-2.0

//go:build netns

package agent

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/internal/zds"
)

// What a node proxy says of itself is on its pod, and on no other one's. An agent that comes after the proxy writes it down as well.
func TestWhatProxiesSayIsOnTheirPods(t *testing.T) {
	n := newNode(t, namespace("shop", ""))
	system := n.options.Selection.SystemNamespace
	said := func(p *corev1.Pod) string {
		p, err := n.client.CoreV1().Pods(p.Namespace).Get(t.Context(), p.Name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return p.Annotations[annotationConfines]
	}
	create := func(namespace, name string) *corev1.Pod {
		p, err := n.client.CoreV1().Pods(namespace).Create(t.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{labelApp: proxyApp}}, Spec: corev1.PodSpec{NodeName: "n1"},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	one, silent, other, elsewhere := create(system, "proxy-1"), create(system, "proxy-2"), create(system, "proxy-3"), create("shop", "proxy-1")
	stop := n.start()
	plain, _ := n.startProxyAs(zds.Proxy{Namespace: system, Name: "proxy-2"})
	n.until("the second proxy is there", func() bool { return plain.snapshots() > 0 })
	n.startProxyAs(zds.Proxy{Namespace: system, Name: "proxy-1", Confines: true})
	n.startProxyAs(zds.Proxy{Namespace: "shop", Name: "proxy-1", Confines: true})
	n.until("the first proxy's pod says so", func() bool { return said(one) == "true" })
	stop()
	n.start()
	n.startProxyAs(zds.Proxy{Namespace: system, Name: "proxy-3", Confines: true})
	n.until("the third proxy's pod says so", func() bool { return said(other) == "true" })
	for _, p := range []*corev1.Pod{silent, elsewhere} {
		if v := said(p); v != "" {
			t.Errorf("%s/%s says %q", p.Namespace, p.Name, v)
		}
	}
}
