// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// askFor has a Gateway ask for one address.
func askFor(g *gatewayv1.Gateway, kind gatewayv1.AddressType, value string) {
	g.Spec.Addresses = []gatewayv1.GatewaySpecAddress{{Type: &kind, Value: value}}
}

var _ = Describe("What is made for a Gateway", func() {
	It("is the Gateway's again when somebody takes that away, with as many pods as there were", func(ctx SpecContext) {
		g := eastwest("default", "owned")
		deployment, service, scaler := east.made(g)
		east.with(g)
		budget := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: g.Namespace, Name: g.Name}}
		account := &corev1.ServiceAccount{ObjectMeta: budget.ObjectMeta}
		all := []client.Object{deployment, service, scaler, budget, account}
		for _, o := range all {
			Eventually(get(east, o)).Should(HaveField("OwnerReferences", HaveLen(1)))
		}
		edit(east, deployment, func(d *appsv1.Deployment) { d.Spec.Replicas = ptr.To[int32](5) })
		for _, o := range all {
			edit(east, o, func(o client.Object) { o.SetOwnerReferences(nil) })
			Eventually(get(east, o)).Should(HaveField("OwnerReferences", ConsistOf(HaveField("UID", g.UID))), "%T", o)
		}
		for _, o := range all {
			edit(east, o, func(o client.Object) {
				labels := o.GetLabels()
				delete(labels, gatewayNameLabel)
				o.SetLabels(labels)
			})
			Eventually(get(east, o)).Should(HaveField("Labels", HaveKeyWithValue(gatewayNameLabel, g.Name)), "%T", o)
		}
		Expect(get(east, deployment)()).To(HaveField("Spec.Replicas", HaveValue(BeEquivalentTo(5))), "who takes a label away takes no pods away")
	})

	It("loses what others add to its autoscaler", func() {
		g := eastwest("default", "grows")
		_, _, scaler := east.made(g)
		east.with(g)
		Eventually(get(east, scaler)).Should(HaveField("OwnerReferences", HaveLen(1)))
		edit(east, scaler, func(s *autoscalingv2.HorizontalPodAutoscaler) {
			s.Spec.Behavior.ScaleUp = &autoscalingv2.HPAScalingRules{SelectPolicy: ptr.To(autoscalingv2.DisabledPolicySelect)}
		})
		Eventually(get(east, scaler)).Should(HaveField("Spec.Behavior.ScaleUp", Or(BeNil(), HaveField("SelectPolicy", Not(HaveValue(Equal(autoscalingv2.DisabledPolicySelect)))))))
	})

	It("has its own disruption budget again when somebody writes another one, which excludes it", func() {
		g := eastwest("default", "rebudgeted")
		east.with(g)
		budget := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: g.Namespace, Name: g.Name}}
		Eventually(get(east, budget)).Should(HaveField("OwnerReferences", HaveLen(1)))
		edit(east, budget, func(b *policyv1.PodDisruptionBudget) {
			b.Spec.MaxUnavailable, b.Spec.MinAvailable = nil, ptr.To(intstr.FromString("100%"))
		})
		Eventually(get(east, budget)).Should(HaveField("Spec", And(HaveField("MinAvailable", BeNil()), HaveField("MaxUnavailable", HaveValue(Equal(intstr.FromInt32(1)))))))
	})

	It("stays as it is when the API server refuses a part of it, which is said, until it does not any more", func() {
		g := withParameters(eastwest("default", "refused"), "refused")
		deployment, service, _ := east.made(g)
		m := overlayMap("refused", "")
		east.with(m, g)
		Eventually(get(east, deployment)).Should(HaveField("OwnerReferences", HaveLen(1)))
		Eventually(get(east, service)).Should(HaveField("OwnerReferences", HaveLen(1)))
		editStatus(east, service, func(s *corev1.Service) {
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "10.89.101.44"}}
		})
		Eventually(east.gatewayVerdict(g, "Programmed")).Should(Equal("True/Programmed"))

		By("asking for another class of load balancer, which no Service can change")
		edit(east, m, func(m *corev1.ConfigMap) {
			m.Data[world.OverlayKey] = "autoscaling: {minReplicas: 4}\nservice: {loadBalancerClass: example.com/a}"
		})
		Eventually(east.gatewayVerdict(g, "Programmed")).Should(Equal("False/Invalid"))
		Expect(message(g.Status.Conditions, "Programmed")).To(And(ContainSubstring("refuses the Service"), ContainSubstring("spec.loadBalancerClass")))
		Expect(verdict(g.Status.Conditions, g.Generation, "Accepted")).To(Equal("True/Accepted"))
		Expect(g.Status.Addresses).To(ConsistOf(HaveField("Value", "10.89.101.44")), "it goes on")
		Expect(verdict(g.Status.Listeners[0].Conditions, g.Generation, "Programmed")).To(Equal("True/Programmed"), "and so do its listeners")
		Expect(get(east, deployment)()).To(HaveField("Spec.Replicas", HaveValue(BeEquivalentTo(2))), "the rest was not changed")
		Eventually(east.eventsOf(g)).Should(ContainElement(And(HaveField("Reason", "NotProvisioned"), HaveField("Note", ContainSubstring("spec.loadBalancerClass")))))

		By("asking for what it takes")
		edit(east, m, func(m *corev1.ConfigMap) { m.Data[world.OverlayKey] = "autoscaling: {minReplicas: 4}" })
		Eventually(east.gatewayVerdict(g, "Programmed")).Should(Equal("True/Programmed"))
		Eventually(get(east, deployment)).Should(HaveField("Spec.Replicas", HaveValue(BeEquivalentTo(4))))
	})

	It("is not touched by a plan that was made before all was read", func(ctx SpecContext) {
		g := eastwest("default", "half-read")
		g.Spec.GatewayClassName = "nobodys"
		east.with(g)
		service := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: g.Namespace, Name: g.Name, OwnerReferences: []metav1.OwnerReference{
				{APIVersion: gatewayv1.GroupVersion.String(), Kind: "Gateway", Name: g.Name, UID: g.UID, Controller: ptr.To(true)},
			}},
			Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "mesh", Port: 15008}}},
		}
		east.with(service)
		known := make(chan struct{})
		r := &GatewayReconciler{
			client: east, reader: east, obstacles: &obstacles{}, known: known, changed: func(types.NamespacedName) {},
			plan: func(string, string) *translate.GatewayPlan {
				return &translate.GatewayPlan{UID: string(g.UID), Unmanaged: true}
			},
		}
		done := make(chan error, 1)
		go func() {
			_, err := r.Reconcile(ctx, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(g)})
			done <- err
		}()
		Consistently(done, "300ms").ShouldNot(Receive())
		Expect(east.is(service)()).To(BeTrue())
		close(known)
		Eventually(done).Should(Receive(BeNil()))
		Expect(east.is(service)()).To(BeFalse())
	})

	It("follows the Gateway although its Service cannot have the address that is asked for", func(ctx SpecContext) {
		g := withParameters(eastwest("default", "late"), "late")
		_, service, _ := east.made(g)
		east.with(overlayMap("late", "service: {type: ClusterIP}"), g)
		Eventually(get(east, service)).Should(HaveField("OwnerReferences", HaveLen(1)))
		edit(east, g, func(g *gatewayv1.Gateway) {
			askFor(g, gatewayv1.IPAddressType, "10.0.0.9") // of the first sixteen, which are given to nobody who does not ask
			g.Spec.Listeners = append(g.Spec.Listeners, gatewayv1.Listener{Name: "web", Port: 8080, Protocol: gatewayv1.HTTPProtocolType})
		})
		Eventually(east.gatewayVerdict(g, "Programmed")).Should(Equal("False/AddressNotUsable"))
		Expect(message(g.Status.Conditions, "Programmed")).To(ContainSubstring("delete Service default/late"))
		Eventually(get(east, service)).Should(HaveField("Spec.Ports", HaveLen(2)))

		By("doing what it says")
		Expect(east.Delete(ctx, service)).To(Succeed())
		Eventually(get(east, service)).Should(HaveField("Spec.ClusterIP", "10.0.0.9"))
		Eventually(east.gatewayVerdict(g, "Programmed")).Should(Equal("True/Programmed"))
	})
})
