// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// replica starts a control plane of a cluster with a short lease, by way of a kubeconfig.
func replica(kubeconfig []byte, id world.Cluster, change ...func(*Options)) *controlPlane {
	GinkgoHelper()
	config, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	Expect(err).NotTo(HaveOccurred())
	p := startReplica(config, id, &officeTimes{duration: 6 * time.Second, deadline: 4 * time.Second, retry: 500 * time.Millisecond}, change...)
	DeferCleanup(func() {
		p.stop()
		Eventually(p.done).Should(BeClosed())
	})
	return p
}

var _ = Describe("Two replicas", Ordered, func() {
	It("keep the addresses of services over the end of their leader, orderly or not", func(ctx SpecContext) {
		By("starting a cluster of their own")
		north := startCluster()
		DeferCleanup(func() { Expect(north.Stop()).To(Succeed()) })
		north.prepare("north")
		previousEast, previousControl := east, control
		DeferCleanup(func() { east, control = previousEast, previousControl })
		east = north // what proxies and kubeconfigs are made for below

		if scope := defaultScope(); west.Create(ctx, scope) == nil { // else another part of the suite made it
			west.removeLater(scope)
		}
		global := map[string]string{"istio.io/global": "true"}
		key := func(name string) mesh.ServiceKey {
			return mesh.ServiceKey{Namespace: "default", Hostname: name + ".default.svc.cluster.local"}
		}
		addresses := func(p *subscriber, name string) func() []mesh.NetworkAddress {
			return func() []mesh.NetworkAddress {
				if s := p.service(key(name)); s != nil {
					return s.Addresses
				}
				return nil
			}
		}
		west.runApp("default", "held-1", "10.244.3.1", global)
		north.create(remoteSecret("west", map[string][]byte{"west": west.readerKubeconfig()}))
		leads := func() string {
			var lease coordinationv1.Lease
			if err := north.Get(ctx, client.ObjectKey{Namespace: system, Name: officeName}, &lease); err != nil {
				return ""
			}
			return ptr.Deref(lease.Spec.HolderIdentity, "")
		}
		connect := func(p *controlPlane) *subscriber {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: "isthmus-nodeproxy-sub"}}
			Expect(client.IgnoreNotFound(north.Delete(ctx, pod, client.GracePeriodSeconds(0)))).To(Succeed()) // the one before
			control = p
			return subscribe()
		}

		far := newFarProxy(north)
		account := north.kubeconfigFor(north.token(system, "isthmus-controller", "", nil))
		cut := far.kubeconfigAs("isthmus-controller")
		a := replica(cut, "east")
		Eventually(leads).ShouldNot(BeEmpty())
		first := leads()
		b := replica(account, "east")
		proxyA := connect(a)
		Eventually(addresses(proxyA, "held-1")).ShouldNot(BeEmpty())
		held := addresses(proxyA, "held-1")()

		By("cutting the leader off: the other one takes over")
		far.misbehave(abort)
		Eventually(leads, 2*soon).ShouldNot(Equal(first))
		Expect(addresses(proxyA, "held-1")()).To(Equal(held), "the cut off one answers as before until it ends")
		Eventually(a.done).Should(BeClosed())
		Expect(a.err).To(HaveOccurred(), "a leader that lost its lease ends")
		proxyB := connect(b)
		Eventually(addresses(proxyB, "held-1")).Should(Equal(held))
		west.runApp("default", "held-2", "10.244.3.2", global)
		Eventually(addresses(proxyB, "held-2")).ShouldNot(BeEmpty())
		second := addresses(proxyB, "held-2")()
		Expect(second).NotTo(ContainElement(BeElementOf(held)))

		By("ending the second leader in order, after the first came back")
		far.misbehave(nil)
		c := replica(cut, "east")
		proxyC := connect(c)
		Eventually(addresses(proxyC, "held-1")).Should(Equal(held))
		Eventually(addresses(proxyC, "held-2")).Should(Equal(second))
		now := leads()
		b.end()
		Eventually(leads).ShouldNot(Equal(now))
		west.runApp("default", "held-3", "10.244.3.3", global)
		Eventually(addresses(proxyC, "held-3")).ShouldNot(BeEmpty())
		Expect(addresses(proxyC, "held-1")()).To(Equal(held))
		Expect(addresses(proxyC, "held-2")()).To(Equal(second))
	})
})
