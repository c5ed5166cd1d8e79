// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// made are the objects that are made for a Gateway; nobody collects them here, so they go with the spec.
func (c *cluster) made(g *gatewayv1.Gateway) (*appsv1.Deployment, *corev1.Service, *autoscalingv2.HorizontalPodAutoscaler) {
	at := metav1.ObjectMeta{Namespace: g.Namespace, Name: translate.ResourceName(g.Name)}
	deployment, service, scaler := &appsv1.Deployment{ObjectMeta: at}, &corev1.Service{ObjectMeta: at}, &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: at}
	for _, o := range provisioned() {
		o.SetNamespace(at.Namespace)
		o.SetName(at.Name)
		c.removeLater(o)
	}
	return deployment, service, scaler
}

func overlayMap(name, text string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Data: map[string]string{world.OverlayKey: text}}
}

func withParameters(g *gatewayv1.Gateway, name string) *gatewayv1.Gateway {
	g.Spec.Infrastructure = &gatewayv1.GatewayInfrastructure{ParametersRef: &gatewayv1.LocalParametersReference{Kind: "ConfigMap", Name: name}}
	return g
}

// is answers with what Get found, in the form of an error.
func (c *cluster) is(o client.Object) func() bool {
	return func() bool {
		err := c.Get(context.Background(), client.ObjectKeyFromObject(o), o)
		Expect(client.IgnoreNotFound(err)).To(Succeed())
		return err == nil
	}
}

var _ = Describe("Parameters of a Gateway", func() {
	It("leave an autoscaler of somebody else's alone, and have all the rest", func(ctx SpecContext) {
		scaler := &autoscalingv2.HorizontalPodAutoscaler{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "scaled"},
			Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
				ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "scaled"}, MaxReplicas: 7,
			},
		}
		east.with(scaler)
		g := eastwest("default", "scaled")
		east.with(g)
		deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "scaled"}}
		Eventually(get(east, deployment)).Should(HaveField("OwnerReferences", HaveLen(1)))
		Expect(east.Get(ctx, client.ObjectKeyFromObject(scaler), scaler)).To(Succeed())
		Expect(scaler.OwnerReferences).To(BeEmpty())
		Expect(scaler.Spec.MaxReplicas).To(BeEquivalentTo(7))
		for _, o := range []client.Object{
			deployment, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "scaled"}}, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "scaled"}},
			&policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "scaled"}},
		} {
			east.removeLater(o)
		}
	})

	It("change what runs, and nothing when they are not understood", func(ctx SpecContext) {
		g := withParameters(eastwest("default", "tuned"), "tuning")
		deployment, service, scaler := east.made(g)
		east.with(g)
		Eventually(east.gatewayVerdict(g, "Accepted")).Should(Equal("False/InvalidParameters"))
		Expect(message(g.Status.Conditions, "Accepted")).To(ContainSubstring("there is no ConfigMap default/tuning"))
		Consistently(east.is(deployment), "300ms").Should(BeFalse())

		By("giving them")
		m := overlayMap("tuning", "autoscaling: {minReplicas: 3, maxReplicas: 6}\nservice: {type: ClusterIP, annotations: {example.com/a: b}}\nnodeSelector: {disk: ssd}\nsettle: 15s\ndrain: 1h\n")
		east.with(m)
		Eventually(east.gatewayVerdict(g, "Accepted")).Should(Equal("True/Accepted"))
		Eventually(get(east, deployment)).Should(HaveField("Spec.Replicas", HaveValue(BeEquivalentTo(3))))
		Expect(deployment.Spec.Template.Spec.NodeSelector).To(HaveKeyWithValue("disk", "ssd"))
		Expect(deployment.Spec.Template.Spec.TerminationGracePeriodSeconds).To(HaveValue(BeEquivalentTo(3640)))
		Expect(deployment.Spec.Template.Spec.Containers[0].Args).To(ContainElements("--settle=15s", "--drain=1h0m0s"))
		Eventually(get(east, service)).Should(And(HaveField("Spec.Type", corev1.ServiceTypeClusterIP), HaveField("Annotations", HaveKeyWithValue("example.com/a", "b"))))
		Eventually(get(east, scaler)).Should(And(HaveField("Spec.MinReplicas", HaveValue(BeEquivalentTo(3))), HaveField("Spec.MaxReplicas", BeEquivalentTo(6))))
		Expect(metav1.IsControlledBy(scaler, g)).To(BeTrue())

		By("scaling it as an autoscaler does, which stays so when something else drifts")
		edit(east, deployment, func(d *appsv1.Deployment) { d.Spec.Replicas = new(int32(5)) })
		edit(east, deployment, func(d *appsv1.Deployment) { d.Spec.Template.Spec.NodeSelector = map[string]string{"disk": "hdd"} })
		Eventually(get(east, deployment)).Should(HaveField("Spec.Template.Spec.NodeSelector", Equal(map[string]string{"disk": "ssd"})))
		Expect(deployment.Spec.Replicas).To(HaveValue(BeEquivalentTo(5)))

		By("changing and deleting the autoscaler")
		edit(east, scaler, func(s *autoscalingv2.HorizontalPodAutoscaler) { s.Spec.MaxReplicas = 99 })
		Eventually(get(east, scaler)).Should(HaveField("Spec.MaxReplicas", BeEquivalentTo(6)))
		uid := scaler.UID
		Expect(east.Delete(ctx, scaler)).To(Succeed())
		Eventually(get(east, scaler)).Should(HaveField("UID", Not(Equal(uid))))

		By("breaking the parameters")
		version := deployment.ResourceVersion
		edit(east, m, func(m *corev1.ConfigMap) { m.Data[world.OverlayKey] = "drain: for an hour\n" })
		Eventually(east.gatewayVerdict(g, "Accepted")).Should(Equal("False/InvalidParameters"))
		Expect(message(g.Status.Conditions, "Accepted")).To(ContainSubstring(`ConfigMap default/tuning: drain: "for an hour" is no duration`))
		edit(east, m, func(m *corev1.ConfigMap) {
			m.Data[world.OverlayKey] = "autoscaling: {minReplicas: 1, maxreplicas: 2}\n"
		})
		Eventually(east.gatewayVerdict(g, "Accepted")).Should(Equal("False/InvalidParameters"))
		Eventually(func() string {
			east.gatewayVerdict(g, "Accepted")()
			return message(g.Status.Conditions, "Accepted")
		}).Should(And(ContainSubstring("autoscaling.maxreplicas"), ContainSubstring("what was accepted last keeps serving")))
		Consistently(func() string { Expect(get(east, deployment)()).NotTo(BeNil()); return deployment.ResourceVersion }, "300ms").Should(Equal(version))

		By("fixing the number of pods: the autoscaler goes, and so does what was set before")
		edit(east, m, func(m *corev1.ConfigMap) { m.Data[world.OverlayKey] = "replicas: 4\n" })
		Eventually(get(east, deployment)).Should(HaveField("Spec.Replicas", HaveValue(BeEquivalentTo(4))))
		Eventually(east.is(scaler)).Should(BeFalse())
		Expect(deployment.Spec.Template.Spec.NodeSelector).To(BeEmpty())
		Eventually(get(east, service)).Should(And(HaveField("Spec.Type", corev1.ServiceTypeLoadBalancer), HaveField("Annotations", Not(HaveKey("example.com/a")))))

		By("letting the autoscaler decide again: it begins with the pods that there are")
		edit(east, m, func(m *corev1.ConfigMap) { m.Data[world.OverlayKey] = "" })
		Eventually(east.is(scaler)).Should(BeTrue())
		Expect(get(east, deployment)()).To(HaveField("Spec.Replicas", HaveValue(BeEquivalentTo(4))))

		By("taking the parameters away")
		Expect(east.Delete(ctx, m)).To(Succeed())
		Eventually(east.gatewayVerdict(g, "Accepted")).Should(Equal("False/InvalidParameters"))
		edit(east, g, func(g *gatewayv1.Gateway) { g.Spec.Infrastructure = nil })
		Eventually(east.gatewayVerdict(g, "Accepted")).Should(Equal("True/Accepted"))
	})

	It("outlive what is made by them: all of it comes back when it is deleted", func(ctx SpecContext) {
		g := withParameters(eastwest("default", "again"), "again")
		east.made(g)
		east.with(overlayMap("again", "autoscaling: {minReplicas: 3}"), g)
		for _, o := range provisioned() {
			o.SetNamespace(g.Namespace)
			o.SetName(g.Name)
			Eventually(east.is(o)).Should(BeTrue())
			uid := o.GetUID()
			Expect(east.Delete(ctx, o)).To(Succeed())
			Eventually(func() bool { return east.is(o)() && o.GetUID() != uid }).Should(BeTrue(), "%T", o)
			Expect(metav1.IsControlledBy(o, g)).To(BeTrue())
			if d, ok := o.(*appsv1.Deployment); ok {
				Expect(d.Spec.Replicas).To(HaveValue(BeEquivalentTo(3)))
			}
		}
	})

	It("go together with an address that is asked for", func() {
		ip := gatewayv1.IPAddressType
		g := withParameters(eastwest("default", "fixed"), "inside")
		g.Spec.Addresses = []gatewayv1.GatewaySpecAddress{{Type: &ip, Value: "10.0.0.7"}} // of the first sixteen, which the API server gives to nobody who does not ask
		_, service, _ := east.made(g)
		east.with(overlayMap("inside", "service: {type: ClusterIP}"), g)
		Eventually(get(east, service)).Should(HaveField("Spec.ClusterIP", "10.0.0.7"))
		Eventually(east.gatewayVerdict(g, "Programmed")).Should(Equal("True/Programmed"))
		Expect(g.Status.Addresses).To(ConsistOf(HaveField("Value", "10.0.0.7")))
	})

	It("lead from one type of Service to another and back", func() {
		g := withParameters(eastwest("default", "types"), "types")
		g.Spec.Listeners[0].Port = 30008
		_, service, _ := east.made(g)
		m := overlayMap("types", "service: {type: NodePort, externalTrafficPolicy: Local}")
		east.with(m, g)
		Eventually(get(east, service)).Should(HaveField("Spec.Type", corev1.ServiceTypeNodePort))
		Expect(service.Spec.Ports).To(HaveLen(1))
		Expect(service.Spec.Ports[0].NodePort).To(BeEquivalentTo(30008), "nodes serve the Gateway's own port")
		Expect(service.Spec.ExternalTrafficPolicy).To(Equal(corev1.ServiceExternalTrafficPolicyLocal))
		for _, kind := range []corev1.ServiceType{"ClusterIP", "LoadBalancer", "ClusterIP", "NodePort", "LoadBalancer"} {
			edit(east, m, func(m *corev1.ConfigMap) { m.Data[world.OverlayKey] = "service: {type: " + string(kind) + "}" })
			Eventually(get(east, service)).Should(HaveField("Spec.Type", kind))
		}
		By("asking for what the API server refuses: an event on the Gateway says so")
		edit(east, m, func(m *corev1.ConfigMap) { m.Data[world.OverlayKey] = "service: {loadBalancerClass: example.com/a}" })
		Eventually(east.eventsOf(g)).Should(ContainElement(And(HaveField("Reason", "NotProvisioned"), HaveField("Note", ContainSubstring("spec.loadBalancerClass")))))
	})
})

// eventsOf lists the events about an object.
func (c *cluster) eventsOf(o client.Object) func() ([]eventsv1.Event, error) {
	return func() ([]eventsv1.Event, error) {
		var all eventsv1.EventList
		err := c.List(context.Background(), &all, client.InNamespace(o.GetNamespace()))
		var out []eventsv1.Event
		for _, e := range all.Items {
			if e.Regarding.UID == o.GetUID() {
				out = append(out, e)
			}
		}
		return out, err
	}
}

var _ = Describe("Gateways with a Service of their own", func() {
	It("are led to by it, and nothing is made for them", func(ctx SpecContext) {
		g := withParameters(eastwest("default", "manual"), "manual")
		deployment, service, scaler := east.made(g)
		east.with(overlayMap("manual", "settle: 1s\ndrain: 2s"), g)
		Eventually(east.is(deployment)).Should(BeTrue())
		Eventually(east.is(scaler)).Should(BeTrue())
		Eventually(east.is(service)).Should(BeTrue())

		By("naming the Service that was made for it, which is refused")
		hostname := gatewayv1.HostnameAddressType
		edit(east, g, func(g *gatewayv1.Gateway) {
			g.Spec.Addresses = []gatewayv1.GatewaySpecAddress{{Type: &hostname, Value: "manual.default.svc.cluster.local"}}
			g.Spec.Infrastructure = nil // there is nothing to set any more; how its pods end stays
		})
		Eventually(east.gatewayVerdict(g, "Accepted")).Should(Equal("False/UnsupportedAddress"))
		Consistently(east.is(deployment), "300ms").Should(BeTrue())

		By("naming one that is not there: what was made goes on")
		edit(east, g, func(g *gatewayv1.Gateway) { g.Spec.Addresses[0].Value = "dor" })
		Eventually(east.gatewayVerdict(g, "Programmed")).Should(Equal("False/AddressNotUsable"))
		Expect(message(g.Status.Conditions, "Programmed")).To(And(ContainSubstring("there is no Service default/dor"), ContainSubstring("goes on")))
		Consistently(func() bool { return east.is(deployment)() && east.is(service)() && east.is(scaler)() }, "300ms").Should(BeTrue())

		By("naming one that leads to nobody yet")
		door := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "door"},
			Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "door"}, Ports: []corev1.ServicePort{{Name: "mesh", Port: 15008}}},
		}
		east.with(door)
		edit(east, g, func(g *gatewayv1.Gateway) { g.Spec.Addresses[0].Value = "door" })
		Eventually(east.gatewayVerdict(g, "Programmed")).Should(Equal("False/NoResources"))
		Consistently(func() bool { return east.is(deployment)() && east.is(service)() && east.is(scaler)() }, "300ms").Should(BeTrue())

		By("having somebody behind it: it takes over, and what was made goes on for as long as a pod that ends does")
		old := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "default", Name: "manual-h1-x", Labels: map[string]string{
					gatewayNameLabel: "manual", translate.LabelManagedBy: translate.ManagedBy, appsv1.DefaultDeploymentUniqueLabelKey: "h1",
				},
				OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "manual-h1", UID: "u", Controller: new(true)}},
			},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "gateway", Image: "i"}}},
		}
		east.with(old)
		east.with(&discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: "door", Labels: map[string]string{discoveryv1.LabelServiceName: "door"}},
			AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.89.7.7"}}},
			Ports: []discoveryv1.EndpointPort{{Name: ptr.To("mesh"), Port: ptr.To[int32](15008)}},
		})
		Eventually(get(east, g)).Should(HaveField("Status.Addresses", ConsistOf(HaveField("Value", door.Spec.ClusterIP))))
		Eventually(east.gatewayVerdict(g, "Accepted")).Should(Equal("True/Accepted"))
		Consistently(func() bool { return east.is(deployment)() && east.is(service)() && east.is(scaler)() }, "1500ms").Should(BeTrue(), "who came by the old address is not cut")

		By("having its pods end before what leads to them goes")
		Eventually(east.is(deployment)).Should(BeFalse())
		Eventually(east.is(scaler)).Should(BeFalse())
		Consistently(east.is(service), "300ms").Should(BeTrue(), "a pod drains behind it")
		Expect(east.Delete(ctx, old, client.GracePeriodSeconds(0))).To(Succeed())
		Eventually(east.is(service)).Should(BeFalse())
		budget := &policyv1.PodDisruptionBudget{ObjectMeta: service.ObjectMeta}
		Eventually(east.is(budget)).Should(BeFalse())
		account := &corev1.ServiceAccount{ObjectMeta: service.ObjectMeta}
		Consistently(east.is(account), "300ms").Should(BeTrue(), "who is behind it has that identity, or other clusters would not know it")

		By("taking that Service away: its address goes from the status")
		Expect(east.Delete(ctx, door)).To(Succeed())
		Eventually(east.gatewayVerdict(g, "Programmed")).Should(Equal("False/AddressNotUsable"))
		Eventually(get(east, g)).Should(HaveField("Status.Addresses", BeEmpty()))
	})

	It("have their pods made again if somebody deletes them while what was made goes on", func(ctx SpecContext) {
		g := eastwest("default", "keeps-pods")
		deployment, service, _ := east.made(g)
		east.with(g)
		Eventually(east.is(service)).Should(BeTrue())
		Eventually(east.is(deployment)).Should(BeTrue())
		hostname := gatewayv1.HostnameAddressType
		edit(east, g, func(g *gatewayv1.Gateway) {
			g.Spec.Addresses = []gatewayv1.GatewaySpecAddress{{Type: &hostname, Value: "nowhere"}}
			g.Spec.Listeners = append(g.Spec.Listeners, gatewayv1.Listener{Name: "web", Port: 8080, Protocol: gatewayv1.HTTPProtocolType})
		})
		Eventually(func() string {
			_ = east.gatewayVerdict(g, "Programmed")()
			return message(g.Status.Conditions, "Programmed")
		}).Should(ContainSubstring("what was made for the Gateway goes on"))
		uid := service.UID
		for range 2 {
			Expect(get(east, deployment)()).To(HaveField("OwnerReferences", HaveLen(1)))
			gone := deployment.UID
			Expect(east.Delete(ctx, deployment)).To(Succeed())
			Eventually(get(east, deployment)).ShouldNot(HaveField("UID", gone))
		}
		Expect(get(east, service)()).To(And(HaveField("UID", uid), HaveField("Spec.Ports", HaveLen(1))), "what leads to them is as it was")
	})
})

var _ = Describe("Gateways with long names", func() {
	It("are provisioned under shorter ones", func(ctx SpecContext) {
		g := eastwest("default", strings.Repeat("long.", 50)+"ish")
		Expect(g.Name).To(HaveLen(253))
		deployment, service, scaler := east.made(g)
		east.with(g)
		Eventually(east.gatewayVerdict(g, "Programmed")).Should(Equal("False/AddressNotAssigned"))
		for _, o := range []client.Object{deployment, service, scaler} {
			Eventually(east.is(o)).Should(BeTrue())
			Expect(o.GetLabels()).To(HaveKeyWithValue(gatewayNameLabel, service.Name))
		}
		Expect(deployment.Spec.Template.Spec.ServiceAccountName).To(Equal(service.Name))
		Expect(deployment.Spec.Template.Spec.Containers[0].Args).To(ContainElement("--gateway=default/" + g.Name))
		editStatus(east, service, func(s *corev1.Service) {
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "10.89.101.77"}}
		})
		Eventually(east.gatewayVerdict(g, "Programmed")).Should(Equal("True/Programmed"))

		By("taking the address away again")
		editStatus(east, service, func(s *corev1.Service) { s.Status.LoadBalancer.Ingress = nil })
		Eventually(east.gatewayVerdict(g, "Programmed")).Should(Equal("False/AddressNotAssigned"))
		Eventually(get(east, g)).Should(HaveField("Status.Addresses", BeEmpty()))
	})
})
