// SPDX-License-Identifier: Apache-2.0

//go:build netns

package agent

import (
	"net"
	"os"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestNodesNetworkIsNotReleased: a pod on the node's network that says that it was captured, as a copy of another one's manifest does, ceases to say so, and nothing is written where the node is.
func TestNodesNetworkIsNotReleased(t *testing.T) {
	n := newNode(t, namespace("shop", modeAmbient))
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	h, lo := loopback(t, own)
	if err := h.LinkSetUp(lo); err != nil { // or 127.0.0.1 is nobody's once there is another address
		t.Fatal(err)
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP("10.1.0.9"), Mask: net.CIDRMask(32, 32)}}
	if err := h.AddrAdd(lo, address); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.AddrDel(lo, address); err != nil {
			t.Error(err)
		}
	})
	pod, err := n.client.CoreV1().Pods("shop").Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart-1", UID: types.UID(uidOf(1)), Annotations: map[string]string{annotationRedirection: redirectionEnabled}},
		Spec:       corev1.PodSpec{NodeName: "n1", HostNetwork: true},
		Status:     corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: "10.1.0.9"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	n.process(uidOf(1), own)
	n.start()
	n.until("the annotation to go", func() bool { return n.annotation(pod) == "" })
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	list, err := c.ListTables()
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range list {
		if strings.HasPrefix(table.Name, "isthmus-") && table.Name != "isthmus-probes" {
			t.Errorf("table %s on the node", table.Name)
		}
	}
}
