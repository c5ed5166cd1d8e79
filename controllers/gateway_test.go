// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/translate"
)

func meshListener() gatewayv1.Listener {
	terminate := gatewayv1.TLSModeTerminate
	return gatewayv1.Listener{
		Name: "mesh", Port: 15008, Protocol: "HBONE",
		TLS: &gatewayv1.ListenerTLSConfig{Mode: &terminate, Options: map[gatewayv1.AnnotationKey]gatewayv1.AnnotationValue{
			"gateway.istio.io/tls-terminate-mode": "ISTIO_MUTUAL",
		}},
	}
}

func eastwest(namespace, name string, listeners ...gatewayv1.Listener) *gatewayv1.Gateway {
	if len(listeners) == 0 {
		listeners = []gatewayv1.Listener{meshListener()}
	}
	return &gatewayv1.Gateway{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       gatewayv1.GatewaySpec{GatewayClassName: "eastwest", Listeners: listeners},
	}
}

// verdict is "Status/Reason" of a condition, and its message; "" while it is not there or about an older generation.
func verdict(conditions []metav1.Condition, generation int64, kind string) string {
	c := meta.FindStatusCondition(conditions, kind)
	if c == nil || c.ObservedGeneration != generation {
		return ""
	}
	return string(c.Status) + "/" + c.Reason
}

func message(conditions []metav1.Condition, kind string) string {
	if c := meta.FindStatusCondition(conditions, kind); c != nil {
		return c.Message
	}
	return ""
}

func (c *cluster) gatewayVerdict(g *gatewayv1.Gateway, kind string) func() string {
	return func() string {
		if err := c.Get(context.Background(), client.ObjectKeyFromObject(g), g); err != nil {
			return err.Error()
		}
		return verdict(g.Status.Conditions, g.Generation, kind)
	}
}

// setOf is a ListenerSet of a Gateway, which lets it in.
func setOf(g *gatewayv1.Gateway) *gatewayv1.ListenerSet {
	g.Spec.AllowedListeners = &gatewayv1.AllowedListeners{Namespaces: &gatewayv1.ListenerNamespaces{From: ptr.To(gatewayv1.NamespacesFromSame)}}
	return &gatewayv1.ListenerSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: g.Namespace, Name: g.Name},
		Spec: gatewayv1.ListenerSetSpec{
			ParentRef: gatewayv1.ParentGatewayReference{Name: gatewayv1.ObjectName(g.Name)},
			Listeners: []gatewayv1.ListenerEntry{{Name: "more", Port: 8001, Protocol: gatewayv1.HTTPProtocolType}},
		},
	}
}

// gatewayAndSet is what is said of the first listener of a Gateway, and of a set of it and its first one.
func (c *cluster) gatewayAndSet(g *gatewayv1.Gateway, s *gatewayv1.ListenerSet) func() string {
	return func() string {
		for _, o := range []client.Object{g, s} {
			if err := c.Get(context.Background(), client.ObjectKeyFromObject(o), o); err != nil {
				return err.Error()
			}
		}
		if len(g.Status.Listeners) == 0 || len(s.Status.Listeners) == 0 {
			return ""
		}
		return fmt.Sprintf("%d attached, listener %s; %s %s, entry %s", ptr.Deref(g.Status.AttachedListenerSets, -1), verdict(g.Status.Listeners[0].Conditions, g.Generation, "Programmed"),
			verdict(s.Status.Conditions, s.Generation, "Accepted"), verdict(s.Status.Conditions, s.Generation, "Programmed"), verdict(s.Status.Listeners[0].Conditions, s.Generation, "Programmed"))
	}
}

var _ = Describe("Gateways", func() {
	It("are provisioned, get the Service's address, and are put back when they drift", func(ctx SpecContext) {
		g := eastwest(system, "eastwest")
		g.Spec.Infrastructure = &gatewayv1.GatewayInfrastructure{
			Labels:      map[gatewayv1.LabelKey]gatewayv1.LabelValue{"team": "net"},
			Annotations: map[gatewayv1.AnnotationKey]gatewayv1.AnnotationValue{"note": "hello"},
		}
		east.with(g)
		Eventually(east.gatewayVerdict(g, "Accepted")).Should(Equal("True/Accepted"))
		Eventually(east.gatewayVerdict(g, "Programmed")).Should(Equal("False/AddressNotAssigned"))

		key := client.ObjectKeyFromObject(g)
		deployment, service, account, budget := &appsv1.Deployment{}, &corev1.Service{}, &corev1.ServiceAccount{}, &policyv1.PodDisruptionBudget{}
		for _, o := range []client.Object{deployment, service, account, budget} {
			Eventually(func() error { return east.Get(ctx, key, o) }).Should(Succeed())
			Expect(metav1.IsControlledBy(o, g)).To(BeTrue(), "%T belongs to the Gateway", o)
			Expect(o.GetLabels()).To(HaveKeyWithValue(gatewayNameLabel, "eastwest"))
			Expect(o.GetLabels()).To(HaveKeyWithValue("team", "net"))
			Expect(o.GetAnnotations()).To(HaveKeyWithValue("note", "hello"))
			east.removeLater(o)
		}
		Expect(service.Spec.Type).To(Equal(corev1.ServiceTypeLoadBalancer))
		Expect(service.Spec.Ports).To(HaveLen(1))
		Expect(service.Spec.Ports[0].Port).To(BeEquivalentTo(15008))
		pod := deployment.Spec.Template.Spec
		Expect(pod.Containers[0].Image).To(Equal("isthmus.dev/gateway:dev"))
		Expect(pod.Containers[0].Args).To(ContainElements("--gateway=isthmus-system/eastwest", "--network=east", "--cluster-id=east"))
		Expect(pod.ServiceAccountName).To(Equal("eastwest"))

		By("giving the Service an address, as a load balancer would")
		editStatus(east, service, func(s *corev1.Service) {
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "10.89.101.1"}}
		})
		Eventually(east.gatewayVerdict(g, "Programmed")).Should(Equal("True/Programmed"))
		Expect(g.Status.Addresses).To(HaveLen(1))
		Expect(g.Status.Addresses[0].Value).To(Equal("10.89.101.1"))
		Expect(g.Status.Listeners).To(HaveLen(1))
		Expect(verdict(g.Status.Listeners[0].Conditions, g.Generation, "Accepted")).To(Equal("True/Accepted"))
		Expect(g.Status.Listeners[0].SupportedKinds).To(BeEmpty())

		By("changing and deleting what was provisioned")
		edit(east, service, func(s *corev1.Service) { s.Spec.Ports[0].Port = 9 })
		Eventually(func() int32 { Expect(east.Get(ctx, key, service)).To(Succeed()); return service.Spec.Ports[0].Port }).Should(BeEquivalentTo(15008))
		edit(east, deployment, func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "evil" })
		Eventually(func() string {
			Expect(east.Get(ctx, key, deployment)).To(Succeed())
			return deployment.Spec.Template.Spec.Containers[0].Image
		}).Should(Equal("isthmus.dev/gateway:dev"))
		uid := account.UID
		Expect(east.Delete(ctx, account)).To(Succeed())
		Eventually(func() error {
			if err := east.Get(ctx, key, account); err != nil || account.UID != uid {
				return err
			}
			return fmt.Errorf("still the old one")
		}).Should(Succeed())

		By("leaving conditions of others alone")
		editStatus(east, g, func(g *gatewayv1.Gateway) {
			meta.SetStatusCondition(&g.Status.Conditions, metav1.Condition{Type: "example.com/Mine", Status: "True", Reason: "R"})
		})
		edit(east, g, func(g *gatewayv1.Gateway) { g.Spec.Listeners[0].Port = 15443 })
		Eventually(east.gatewayVerdict(g, "Accepted")).Should(Equal("True/Accepted"))
		Expect(meta.FindStatusCondition(g.Status.Conditions, "example.com/Mine")).NotTo(BeNil())
		Eventually(func() int32 { Expect(east.Get(ctx, key, service)).To(Succeed()); return service.Spec.Ports[0].Port }).Should(BeEquivalentTo(15443))

		By("keeping what serves when the Gateway becomes invalid")
		edit(east, g, func(g *gatewayv1.Gateway) { g.Spec.Listeners[0].Protocol = "SMTP" })
		Eventually(east.gatewayVerdict(g, "Accepted")).Should(Equal("False/ListenersNotValid"))
		Consistently(func() error { return east.Get(ctx, key, deployment) }, "300ms").Should(Succeed())
	})

	It("lose what others add to them", func() {
		g := eastwest("default", "added")
		deployment, service, _ := east.made(g)
		east.with(g)
		Eventually(get(east, deployment)).Should(HaveField("OwnerReferences", HaveLen(1)))
		Eventually(get(east, service)).Should(HaveField("OwnerReferences", HaveLen(1)))
		edit(east, deployment, func(d *appsv1.Deployment) {
			d.Spec.Paused = true
			d.Spec.Template.Annotations = map[string]string{"kubectl.kubernetes.io/restartedAt": "now"}
			pod := &d.Spec.Template.Spec
			pod.NodeSelector = map[string]string{"no": "such-node"}
			pod.HostNetwork = true
			pod.Containers[0].Env = append(pod.Containers[0].Env, corev1.EnvVar{Name: "SSLKEYLOGFILE", Value: "/tmp/keys"})
			pod.Containers = append(pod.Containers, corev1.Container{Name: "extra", Image: "extra", SecurityContext: &corev1.SecurityContext{Privileged: ptr.To(true)}})
		})
		edit(east, service, func(s *corev1.Service) {
			s.Spec.ExternalIPs = []string{"203.0.113.66"}
			s.Spec.PublishNotReadyAddresses = true
			s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
			s.Annotations = map[string]string{"cloud.example.com/load-balancer": "lb-1"}
			s.Spec.LoadBalancerSourceRanges = []string{"192.0.2.0/24"}
		})
		Eventually(get(east, deployment)).Should(HaveField("Spec", SatisfyAll(
			HaveField("Paused", false),
			HaveField("Template.Annotations", HaveKey("kubectl.kubernetes.io/restartedAt")),
			HaveField("Template.Spec", SatisfyAll(
				HaveField("NodeSelector", BeEmpty()), HaveField("HostNetwork", false),
				HaveField("Containers", ConsistOf(HaveField("Env", Not(ContainElement(HaveField("Name", "SSLKEYLOGFILE")))))),
			)),
		)))
		Eventually(get(east, service)).Should(HaveField("Spec", SatisfyAll(
			HaveField("ExternalIPs", BeEmpty()), HaveField("PublishNotReadyAddresses", false), HaveField("SessionAffinity", corev1.ServiceAffinityNone),
			HaveField("LoadBalancerSourceRanges", HaveLen(1)),
		)))
		Expect(service.Annotations).To(HaveKey("cloud.example.com/load-balancer"))
	})

	It("do not take over what was not made for them", func(ctx SpecContext) {
		theirs := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "taken"},
			Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "taken"}, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
		}
		east.with(theirs)
		g := eastwest("default", "taken")
		east.with(g)
		Eventually(east.gatewayVerdict(g, "Accepted")).Should(Equal("False/Invalid"))
		Expect(message(g.Status.Conditions, "Accepted")).To(ContainSubstring("Service default/taken"))
		Consistently(func() *corev1.Service {
			Expect(east.Get(ctx, client.ObjectKeyFromObject(theirs), theirs)).To(Succeed())
			return theirs
		}, "300ms").Should(And(HaveField("OwnerReferences", BeEmpty()), HaveField("Spec.Selector", HaveKeyWithValue("app", "taken"))))

		By("taking its place once it is gone")
		Expect(east.Delete(ctx, theirs)).To(Succeed())
		Eventually(east.gatewayVerdict(g, "Accepted")).Should(Equal("True/Accepted"))
		service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "taken"}}
		Eventually(get(east, service)).Should(HaveField("OwnerReferences", HaveLen(1)))
		for _, o := range []client.Object{service, &appsv1.Deployment{ObjectMeta: service.ObjectMeta}, &corev1.ServiceAccount{ObjectMeta: service.ObjectMeta}, &policyv1.PodDisruptionBudget{ObjectMeta: service.ObjectMeta}} {
			east.removeLater(o)
		}
	})

	DescribeTable("wait for what an earlier Gateway of their name left to the garbage collector",
		func(ctx SpecContext, left client.Object) {
			earlier := metav1.OwnerReference{APIVersion: gatewayv1.GroupVersion.String(), Kind: "Gateway", Name: left.GetName(), UID: "earlier", Controller: ptr.To(true)}
			left.SetNamespace("default")
			left.SetLabels(map[string]string{gatewayNameLabel: left.GetName(), translate.LabelManagedBy: translate.ManagedBy})
			left.SetOwnerReferences([]metav1.OwnerReference{earlier})
			east.with(left)
			g := eastwest("default", left.GetName())
			set := setOf(g)
			deployment, service, _ := east.made(g)
			east.with(g, set)
			Eventually(east.gatewayVerdict(g, "Programmed")).Should(Equal("False/Pending"))
			Eventually(east.gatewayAndSet(g, set)).Should(Equal("1 attached, listener False/Pending; True/Accepted False/ParentNotProgrammed, entry False/Pending"))
			Expect(message(g.Status.Conditions, "Programmed")).To(ContainSubstring("default/" + left.GetName()))
			Consistently(func() string {
				return east.gatewayVerdict(g, "Accepted")() + " " + east.gatewayVerdict(g, "Programmed")()
			}, "2s").Should(Equal("True/Accepted False/Pending"), "nobody has anything to rename")
			Expect(get(east, left)()).To(HaveField("OwnerReferences", ConsistOf(HaveField("UID", earlier.UID))))

			By("collecting it, as nobody does here")
			Expect(east.Delete(ctx, left)).To(Succeed())
			Eventually(east.gatewayVerdict(g, "Programmed")).Should(Equal("False/AddressNotAssigned"))
			Eventually(east.gatewayAndSet(g, set)).Should(Equal("1 attached, listener True/Programmed; True/Accepted False/ParentNotProgrammed, entry True/Programmed"))
			for _, o := range []client.Object{deployment, service, &corev1.ServiceAccount{ObjectMeta: service.ObjectMeta}} {
				Eventually(get(east, o)).Should(HaveField("OwnerReferences", ConsistOf(HaveField("UID", g.UID))))
			}
		},
		Entry("a Service", &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "left-behind"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "mesh", Port: 15008}}}}),
		Entry("a ServiceAccount", &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "left-behind-account"}}),
	)

	DescribeTable("say which object of their name is in the way",
		func(ctx SpecContext, kind string, theirs client.Object) {
			g := eastwest("default", theirs.GetName())
			set := setOf(g)
			east.with(theirs)
			east.with(g, set)
			Eventually(east.gatewayVerdict(g, "Accepted")).Should(Equal("False/Invalid"))
			Eventually(east.gatewayVerdict(g, "Programmed")).Should(Equal("False/Invalid"))
			Eventually(east.gatewayAndSet(g, set)).Should(Equal("0 attached, listener False/Pending; False/ParentNotAccepted False/ParentNotAccepted, entry False/Pending"))
			Expect(message(set.Status.Conditions, "Accepted")).NotTo(ContainSubstring(kind), "the set's owner may be somebody else")
			Expect(message(g.Status.Conditions, "Accepted")).To(ContainSubstring("metadata.name: " + kind + " default/" + theirs.GetName()))
			Expect(east.Get(ctx, client.ObjectKeyFromObject(theirs), theirs)).To(Succeed())
			Expect(theirs.GetOwnerReferences()).To(BeEmpty())

			By("taking its place once it is gone")
			Expect(east.Delete(ctx, theirs)).To(Succeed())
			Eventually(east.gatewayVerdict(g, "Accepted"), "30s").Should(Equal("True/Accepted"))
			Eventually(east.gatewayAndSet(g, set)).Should(Equal("1 attached, listener True/Programmed; True/Accepted False/ParentNotProgrammed, entry True/Programmed"))
			meta := metav1.ObjectMeta{Namespace: "default", Name: theirs.GetName()}
			made := []client.Object{
				&corev1.Service{ObjectMeta: meta}, &appsv1.Deployment{ObjectMeta: meta}, &corev1.ServiceAccount{ObjectMeta: meta}, &policyv1.PodDisruptionBudget{ObjectMeta: meta},
			}
			for _, o := range made {
				Eventually(get(east, o)).Should(HaveField("OwnerReferences", HaveLen(1)))
				east.removeLater(o)
			}
		},
		Entry("a ServiceAccount", "ServiceAccount", &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "account"}}),
		Entry("a PodDisruptionBudget", "PodDisruptionBudget", &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "budget"}}),
	)

	DescribeTable("that cannot be served say so, also if the one of the name that was there just before said something else",
		func(ctx SpecContext, change func(*gatewayv1.Gateway), gateway, listener, field string) {
			g := eastwest("default", "bad")
			change(g)
			east.with(g)
			Eventually(east.gatewayVerdict(g, "Accepted")).Should(Equal(gateway))
			text := message(g.Status.Conditions, "Accepted")
			if listener != "" {
				Expect(g.Status.Listeners).NotTo(BeEmpty())
				last := g.Status.Listeners[len(g.Status.Listeners)-1]
				Expect(verdict(last.Conditions, g.Generation, "Accepted")).To(Equal(listener))
				text = message(last.Conditions, "Accepted")
			}
			Expect(text).To(ContainSubstring(field))
		},
		Entry("unknown protocol", func(g *gatewayv1.Gateway) { g.Spec.Listeners[0].Protocol = "SMTP"; g.Spec.Listeners[0].TLS = nil },
			"False/ListenersNotValid", "False/UnsupportedProtocol", "SMTP"),
		Entry("one bad listener of two", func(g *gatewayv1.Gateway) {
			g.Spec.Listeners = append(g.Spec.Listeners, gatewayv1.Listener{Name: "web", Port: 8080, Protocol: "SMTP"})
		}, "True/ListenersNotValid", "False/UnsupportedProtocol", "SMTP"),
		Entry("unknown option", func(g *gatewayv1.Gateway) {
			g.Spec.Listeners[0].TLS.Options = map[gatewayv1.AnnotationKey]gatewayv1.AnnotationValue{"example.com/x": "y"}
		}, "False/ListenersNotValid", "False/UnsupportedValue", "example.com/x"),
		Entry("unknown value of the option", func(g *gatewayv1.Gateway) {
			g.Spec.Listeners[0].TLS.Options["gateway.istio.io/tls-terminate-mode"] = "SIMPLE"
		}, "False/ListenersNotValid", "False/UnsupportedValue", "SIMPLE"),
		Entry("a hostname that is no Service of the namespace", func(g *gatewayv1.Gateway) {
			kind := gatewayv1.HostnameAddressType
			g.Spec.Addresses = []gatewayv1.GatewaySpecAddress{{Type: &kind, Value: "east.example.com"}}
		}, "False/UnsupportedAddress", "", "spec.addresses[0].value"),
		Entry("class waypoint, whose listeners are for HBONE", func(g *gatewayv1.Gateway) {
			g.Spec.GatewayClassName = "waypoint"
			g.Spec.Listeners = []gatewayv1.Listener{{Name: "web", Port: 8080, Protocol: "HTTP"}}
		}, "False/ListenersNotValid", "False/UnsupportedProtocol", "a waypoint takes HBONE only"),
	)

	It("do not take an address that another one has", func(ctx SpecContext) {
		kind := gatewayv1.IPAddressType
		first, second := eastwest("default", "first"), eastwest("default", "second")
		first.Spec.Addresses = []gatewayv1.GatewaySpecAddress{{Type: &kind, Value: "10.89.101.7"}}
		second.Spec.Addresses = first.Spec.Addresses
		_, service, _ := east.made(first)
		east.with(first, second)
		for _, g := range []*gatewayv1.Gateway{first, second} {
			Eventually(east.gatewayVerdict(g, "Programmed")).Should(Equal("False/AddressNotUsable"), "nobody gives it an address here")
			Expect(message(g.Status.Conditions, "Programmed")).To(ContainSubstring("does not have it"), "who only asks keeps it from nobody")
		}
		editStatus(east, service, func(s *corev1.Service) {
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "10.89.101.7"}}
		})
		Eventually(func() string {
			east.gatewayVerdict(second, "Programmed")()
			return message(second.Status.Conditions, "Programmed")
		}).Should(ContainSubstring("in use by Gateway default/first"))
		Expect(east.gatewayVerdict(second, "Programmed")()).To(Equal("False/AddressNotUsable"))
		Eventually(east.gatewayVerdict(first, "Programmed")).ShouldNot(Equal("False/AddressNotUsable"))
	})

	It("of another controller are left alone", func(ctx SpecContext) {
		east.with(&gatewayv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: "theirs"}, Spec: gatewayv1.GatewayClassSpec{ControllerName: "example.com/other"}})
		g := eastwest("default", "theirs")
		g.Spec.GatewayClassName = "theirs"
		east.with(g)
		Consistently(func() []gatewayv1.ListenerStatus {
			Expect(east.Get(ctx, client.ObjectKeyFromObject(g), g)).To(Succeed())
			return g.Status.Listeners
		}, "300ms").Should(BeEmpty())
		Expect(client.IgnoreNotFound(east.Get(ctx, client.ObjectKeyFromObject(g), &appsv1.Deployment{}))).To(Succeed())
	})
})

var _ = Describe("Objects that users expect", func() {
	It("are made: classes, the default ServiceScope, the root", func(ctx SpecContext) {
		for _, name := range []string{translate.ClassEastWest, translate.ClassWaypoint} {
			class := &gatewayv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: name}}
			Eventually(func() string {
				if err := east.Get(ctx, client.ObjectKeyFromObject(class), class); err != nil {
					return err.Error()
				}
				return verdict(class.Status.Conditions, class.Generation, "Accepted")
			}).Should(Equal("True/Accepted"))
			if name == translate.ClassWaypoint {
				Expect(class.Status.SupportedFeatures).To(BeEmpty())
			} else {
				Expect(class.Status.SupportedFeatures).To(Equal(supportedFeatures))
			}
		}
		scope := defaultScope()
		Eventually(func() string {
			if err := east.Get(ctx, client.ObjectKeyFromObject(scope), scope); err != nil {
				return err.Error()
			}
			return verdict(scope.Status.Conditions, scope.Generation, "Accepted")
		}).Should(Equal("True/Accepted"))

		root := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: rootCertName}}
		Eventually(get(east, root)).Should(HaveField("Data", HaveKeyWithValue(rootCertKey, ContainSubstring("BEGIN CERTIFICATE"))))
		By("deleting the root, which comes back the same")
		before := root.Data[rootCertKey]
		Expect(east.Delete(ctx, root)).To(Succeed())
		Eventually(get(east, root)).Should(HaveField("Data", HaveKeyWithValue(rootCertKey, before)))
	})
})
