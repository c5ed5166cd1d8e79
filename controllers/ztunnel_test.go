// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"slices"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/test/ambient"
)

// ztunnelOn makes the pod of a node proxy and gives the options of a ztunnel in its place.
func ztunnelOn(name, node string) ambient.Options {
	GinkgoHelper()
	Eventually(roots).ShouldNot(BeNil())
	pod := proxyPod(name, node)
	return ambient.Options{
		Address: control.address, ServerName: controllerName, Roots: roots(), ClusterID: "east",
		Token: east.token(system, "isthmus-nodeproxy", tokenAudience, pod),
		IP:    "10.244.1.2", Pod: name, Namespace: system, Node: node,
	}
}

// session runs a ztunnel until the spec ends or end is called.
func session(z *ambient.Ztunnel) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = z.Run(ctx) // it ends with its context, or else shows by what it does not hear
	}()
	end = func() { cancel(); <-done }
	DeferCleanup(end)
	return end
}

var _ = Describe("A ztunnel", func() {
	const hostname = "default/zt.default.svc.cluster.local"

	endpoints := func(z *ambient.Ztunnel) func() []string {
		return func() []string {
			names := []string{}
			for _, w := range z.Workloads() {
				if _, ok := w.Services[hostname]; ok {
					names = append(names, w.Name)
				}
			}
			slices.Sort(names)
			return names
		}
	}

	It("starts, follows, and resumes", func(ctx SpecContext) {
		z := ambient.New(ztunnelOn("ztunnel-follows", "node-1"))
		end := session(z)
		Eventually(z.Ready).Should(BeTrue())

		By("being told of a service and its pod")
		_, pod := east.runApp("default", "zt", "10.244.1.30", nil)
		Eventually(func() map[string]ambient.Service { return z.Services() }).Should(HaveKey(hostname))
		Eventually(endpoints(z)).Should(Equal([]string{pod.Name}))
		w := z.Workloads()["east//Pod/default/"+pod.Name]
		Expect(w.Network).To(Equal("east"))
		Expect(w.Cluster).To(Equal("east"))
		Expect(w.Healthy).To(BeTrue())
		Expect(z.Services()[hostname].VIPs).To(HaveLen(1))

		By("being told, after a pause, of what is new and what is gone, and of nothing else")
		end()
		z.Heard()
		before := z.Workloads()
		Expect(east.Delete(ctx, pod, client.GracePeriodSeconds(0))).To(Succeed())
		other := ambient.New(ztunnelOn("ztunnel-watches", "node-1")) // tells when the control plane knows
		session(other)
		Eventually(other.Ready).Should(BeTrue())
		Eventually(endpoints(other)).Should(BeEmpty())
		session(z)
		Eventually(endpoints(z)).Should(BeEmpty())
		for _, r := range z.Heard() {
			Expect(r.Refused).To(BeEmpty())
			for _, name := range r.Names {
				Expect(r.Type == "Address" && before[name].UID != "").To(BeFalse(), "it was told of %s, which it held", name)
			}
		}
	})

	It("asks on demand", func() {
		service, pod := east.runApp("default", "zt", "10.244.1.31", nil)
		o := ztunnelOn("ztunnel-asks", "node-7")
		o.OnDemand = true
		z := ambient.New(o)
		session(z)
		Eventually(z.Ready).Should(BeTrue())
		Expect(z.Services()).To(BeEmpty(), "nothing was asked for yet")
		Expect(z.Workloads()).To(BeEmpty(), "nothing runs on its node")
		Expect(east.Get(context.Background(), client.ObjectKeyFromObject(service), service)).To(Succeed())
		z.Ask("east/" + service.Spec.ClusterIP)
		Eventually(func() map[string]ambient.Service { return z.Services() }).Should(HaveKey(hostname))
		Eventually(endpoints(z)).Should(Equal([]string{pod.Name}))
		Expect(z.Workloads()).To(HaveLen(1), "it asked for no others")
	})

	It("is certified for the pods of its own node", func(ctx SpecContext) {
		east.runApp("default", "zt", "10.244.1.32", nil)
		east.with(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "zt"}})
		here, elsewhere := ztunnelOn("ztunnel-here", "node-1"), ztunnelOn("ztunnel-elsewhere", "node-2")
		app := id("default", "zt").String()
		cert, bundle, err := here.Certify(ctx, app, false)
		Expect(err).NotTo(HaveOccurred())
		Expect(cert.Leaf.URIs).To(HaveLen(1))
		Expect(bundle.Equal(roots())).To(BeTrue(), "the bundle of certificates is that of the ConfigMap")
		_, _, err = elsewhere.Certify(ctx, app, false)
		Expect(err).To(MatchError(ContainSubstring("no pod with identity")))
	})
})
