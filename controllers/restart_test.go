// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/test/ambient"
)

var _ = Describe("A control plane that restarts while a cluster is away", Ordered, func() {
	It("answers in time, says what it does not know, and takes nothing from proxies and services", func(ctx SpecContext) {
		north := startCluster()
		DeferCleanup(func() { Expect(north.Stop()).To(Succeed()) })
		north.prepare("north")
		previousEast, previousControl := east, control
		DeferCleanup(func() { east, control = previousEast, previousControl })
		east = north // what proxies and kubeconfigs are made for below

		gateway := eastwest(system, "restart")
		west.with(gateway)
		class := &gatewayv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: "eastwest"}, Spec: gatewayv1.GatewayClassSpec{ControllerName: "isthmus.dev/gateway-controller"}}
		for _, o := range []client.Object{class, defaultScope()} {
			if west.Create(ctx, o) == nil { // else another part of the suite made it
				west.removeLater(o)
			}
		}
		editStatus(west, gateway, func(g *gatewayv1.Gateway) {
			kind := gatewayv1.IPAddressType
			g.Status.Addresses = []gatewayv1.GatewayStatusAddress{{Type: &kind, Value: "10.89.102.12"}}
			for i := range g.Status.Conditions {
				g.Status.Conditions[i].LastTransitionTime = metav1.Now()
			}
		})
		global := map[string]string{"istio.io/global": "true"}
		key := func(name string) mesh.ServiceKey {
			return mesh.ServiceKey{Namespace: "default", Hostname: name + ".default.svc.cluster.local"}
		}
		west.runApp("default", "kept", "10.244.4.1", global)

		far := newFarProxy(west)
		wire := newFarWire("127.0.0.1:0", far.Listener.Addr().String())
		kubeconfig := strings.ReplaceAll(string(far.kubeconfig()), far.URL, "https://"+wire.Addr().String())
		north.create(remoteSecret("west", map[string][]byte{"west": []byte(kubeconfig)}))
		account := north.kubeconfigFor(north.token(system, "isthmus-controller", "", nil))
		hurried := func(o *Options) { o.deadline = 3 * time.Second }

		By("one that knows everything, and a proxy that was told")
		a := replica(account, "east", hurried)
		door := newFarWire("127.0.0.1:0", a.address) // what proxies dial, whoever runs
		control = &controlPlane{address: door.Addr().String()}
		proxy := subscribe()
		addresses := func(name string) func() []mesh.NetworkAddress {
			return func() []mesh.NetworkAddress {
				if s := proxy.service(key(name)); s != nil {
					return s.Addresses
				}
				return nil
			}
		}
		Eventually(addresses("kept")).ShouldNot(BeEmpty())
		Eventually(func() int { return proxy.endpoints(key("kept")) }).Should(Equal(1))
		kept := addresses("kept")()
		given := func() map[string]string {
			var maps corev1.ConfigMapList
			Expect(north.List(ctx, &maps, client.InNamespace(system))).To(Succeed())
			out := map[string]string{}
			for _, m := range maps.Items {
				if strings.HasPrefix(m.Name, vipsName) {
					for hostname, entry := range m.Data {
						out[hostname] = entry
					}
				}
			}
			return out
		}
		before := given()
		Expect(before).To(HaveKey(key("kept").Hostname))
		removed := proxy.removals()

		By("the cluster going away, and then the only replica; another one starts and leads")
		wire.set(wireSwallows)
		Eventually(remoteVerdict("west", "Connected")).Should(HavePrefix("False/Unreachable"))
		a.end()
		b := replica(account, "east", hurried)
		door.lead(b.address)
		began := time.Now()
		fresh := ambient.New(ztunnelOn("ztunnel-fresh", "node-1"))
		session(fresh)
		Eventually(fresh.Ready).Should(BeTrue(), "it is answered")
		Expect(time.Since(began)).To(BeNumerically("<", soon))
		partial := false
		for _, r := range fresh.Heard() {
			partial = partial || r.Partial
		}
		Expect(partial).To(BeTrue(), "the answer says that it is not all there is")
		Eventually(remoteVerdict("west", "Ready")).Should(HavePrefix("False/Unreachable"))

		By("our own cluster's changes arriving meanwhile, at the proxy that was told before too")
		north.runApp("default", "local", "10.244.4.9", nil)
		Eventually(func() int { return proxy.endpoints(key("local")) }).Should(Equal(1))
		Expect(proxy.endpoints(key("kept"))).To(Equal(1), "what is in doubt stays")
		Expect(addresses("kept")()).To(Equal(kept))
		Expect(proxy.removals()).To(Equal(removed))
		Expect(given()).To(Equal(before), "no address is taken back")

		By("the cluster coming back, with a service more and a change that nobody saw")
		west.runApp("default", "later", "10.244.4.2", global)
		Expect(west.Delete(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "kept-1"}}, client.GracePeriodSeconds(0))).To(Succeed())
		wire.set(wirePasses)
		Eventually(remoteVerdict("west", "Ready")).Should(HavePrefix("True/Ready"))
		Eventually(addresses("later")).ShouldNot(BeEmpty())
		Expect(addresses("later")()).NotTo(ContainElement(BeElementOf(kept)))
		Expect(addresses("kept")()).To(Equal(kept))
		Eventually(func() int { return proxy.endpoints(key("kept")) }).Should(Equal(0), "the pod is gone, and so is the doubt")
		Expect(given()).To(HaveKeyWithValue(key("kept").Hostname, before[key("kept").Hostname]))
	})
})
