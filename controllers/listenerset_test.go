// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

var _ = Describe("ListenerSets", func() {
	It("add listeners to the Gateway that lets them in, and say what became of them", func(ctx SpecContext) {
		g := eastwest("default", "shared", gatewayv1.Listener{Name: "http", Port: 8000, Protocol: gatewayv1.HTTPProtocolType, Hostname: ptr.To[gatewayv1.Hostname]("a.example.com")})
		set := &gatewayv1.ListenerSet{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "more"},
			Spec: gatewayv1.ListenerSetSpec{
				ParentRef: gatewayv1.ParentGatewayReference{Name: "shared"},
				Listeners: []gatewayv1.ListenerEntry{
					{Name: "http", Port: 8001, Protocol: gatewayv1.HTTPProtocolType},
					{Name: "taken", Port: 8000, Protocol: gatewayv1.HTTPProtocolType, Hostname: ptr.To[gatewayv1.Hostname]("a.example.com")},
				},
			},
		}
		route := &gatewayv1.HTTPRoute{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "through-set"},
			Spec: gatewayv1.HTTPRouteSpec{CommonRouteSpec: gatewayv1.CommonRouteSpec{ParentRefs: []gatewayv1.ParentReference{{
				Kind: ptr.To[gatewayv1.Kind]("ListenerSet"), Name: "more", SectionName: ptr.To[gatewayv1.SectionName]("http"),
			}}}},
		}
		east.with(set, route)
		says := func(kind string) func() string {
			return func() string {
				if err := east.Get(context.Background(), client.ObjectKeyFromObject(set), set); err != nil {
					return err.Error()
				}
				return verdict(set.Status.Conditions, set.Generation, kind)
			}
		}
		entry := func(name, kind string) func() string {
			return func() string {
				if err := east.Get(context.Background(), client.ObjectKeyFromObject(set), set); err != nil {
					return err.Error()
				}
				for _, l := range set.Status.Listeners {
					if string(l.Name) == name {
						return fmt.Sprintf("%s %d", verdict(l.Conditions, set.Generation, kind), l.AttachedRoutes)
					}
				}
				return ""
			}
		}
		attached := func() *int32 {
			if err := east.Get(context.Background(), client.ObjectKeyFromObject(g), g); err != nil {
				return nil
			}
			return g.Status.AttachedListenerSets
		}
		Consistently(says("Accepted"), "1s").Should(BeEmpty(), "the set of a Gateway that is not there is left to others")

		By("refusing the set while the Gateway lets none in")
		east.with(g)
		Eventually(says("Accepted")).Should(Equal("False/NotAllowed"))
		Expect(says("Programmed")()).To(Equal("False/NotAllowed"), "in the same write")
		Expect(set.Status.Listeners).To(BeEmpty())
		Eventually(attached).Should(HaveValue(BeEquivalentTo(0)))

		By("letting it in")
		edit(east, g, func(g *gatewayv1.Gateway) {
			g.Spec.AllowedListeners = &gatewayv1.AllowedListeners{Namespaces: &gatewayv1.ListenerNamespaces{From: ptr.To(gatewayv1.NamespacesFromSame)}}
		})
		Eventually(says("Accepted")).Should(Equal("True/ListenersNotValid"))
		Expect(says("Programmed")()).To(Equal("False/ParentNotProgrammed"), "nobody gives the Gateway an address here")
		Eventually(entry("http", "Accepted")).Should(Equal("True/Accepted 1"))
		Expect(entry("taken", "Conflicted")()).To(Equal("True/HostnameConflict 0"))
		Expect(entry("taken", "Programmed")()).To(Equal("False/HostnameConflict 0"))
		Eventually(attached).Should(HaveValue(BeEquivalentTo(1)))
		Eventually(func() string {
			if err := east.Get(context.Background(), client.ObjectKeyFromObject(route), route); err != nil {
				return err.Error()
			}
			for _, p := range route.Status.Parents {
				if p.ControllerName == translate.ControllerName {
					return fmt.Sprintf("%s %s %s", *p.ParentRef.Kind, p.ParentRef.Name, verdict(p.Conditions, route.Generation, "Accepted"))
				}
			}
			return ""
		}).Should(Equal("ListenerSet more True/Accepted"))
		service := &corev1.Service{}
		Eventually(func() []int32 {
			if err := east.Get(context.Background(), client.ObjectKeyFromObject(g), service); err != nil {
				return nil
			}
			var ports []int32
			for _, p := range service.Spec.Ports {
				ports = append(ports, p.Port)
			}
			return ports
		}).Should(ConsistOf(BeEquivalentTo(8000), BeEquivalentTo(8001)))
		east.removeLater(service)

		By("taking back what was said when the set turns to another controller's Gateway")
		class := &gatewayv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: "of-others"}, Spec: gatewayv1.GatewayClassSpec{ControllerName: "example.com/other"}}
		theirs := eastwest("default", "theirs", gatewayv1.Listener{Name: "http", Port: 8000, Protocol: gatewayv1.HTTPProtocolType})
		theirs.Spec.GatewayClassName = "of-others"
		east.with(class, theirs)
		edit(east, set, func(s *gatewayv1.ListenerSet) { s.Spec.ParentRef.Name = "theirs" })
		statuses := func() string {
			if err := east.Get(context.Background(), client.ObjectKeyFromObject(set), set); err != nil {
				return err.Error()
			}
			out := fmt.Sprint(len(set.Status.Listeners))
			for _, c := range set.Status.Conditions {
				out += fmt.Sprintf(" %s=%s %d", c.Type, c.Status, c.ObservedGeneration)
			}
			return out
		}
		Eventually(statuses).Should(Equal("0 Accepted=Unknown 0 Programmed=Unknown 0"), "what the API gives a set that nobody looked at")
		edit(east, set, func(s *gatewayv1.ListenerSet) { s.Spec.ParentRef.Name = "shared" })
		Eventually(says("Accepted")).Should(Equal("True/ListenersNotValid"))

		By("waiting for a Gateway that went away")
		Expect(east.Delete(ctx, g)).To(Succeed())
		Eventually(says("Accepted")).Should(Equal("Unknown/Pending"))
		Expect(set.Status.Listeners).To(BeEmpty())
	})

	It("give ports names that no two have", func() {
		all := []mesh.Listener{
			{Name: "port-8001", Port: 8000}, {Name: "web/more/http", Port: 8001}, {Name: "web/more/dns", Port: 8001, Protocol: mesh.ListenerUDP}, {Name: "a.b", Port: 8002},
			{Name: "c.d", Port: 8001}, {Name: "set-9000", Port: 9000}, {Name: "set-up", Port: 9001},
		}
		var names []string
		var ofSets []bool
		for _, l := range all {
			name := portName(l, all)
			names, ofSets = append(names, name), append(ofSets, translate.IsSetPort(name))
		}
		Expect(names).To(Equal([]string{"port-8001", "set-8001", "set-udp-8001", "port-8002", "port-8001x", "port-9000", "set-up"}))
		Expect(ofSets).To(Equal([]bool{false, true, true, false, false, false, false}))
	})

	It("say nothing in place of what another controller said", func() {
		for _, status := range []metav1.ConditionStatus{metav1.ConditionUnknown, metav1.ConditionTrue} {
			set := &gatewayv1.ListenerSet{Status: gatewayv1.ListenerSetStatus{Conditions: []metav1.Condition{{Type: "Accepted", Status: status, Reason: "Theirs"}}}}
			before := set.DeepCopy()
			fillListenerSet(set, orphaned{}, &obstacles{})
			Expect(set).To(Equal(before))
			fillListenerSet(set, unfound{}, &obstacles{})
			Expect(set).To(Equal(before))
		}
	})

	It("keep what another controller said when its Gateway is deleted", func(ctx SpecContext) {
		theirs := eastwest("default", "of-theirs", gatewayv1.Listener{Name: "http", Port: 8000, Protocol: gatewayv1.HTTPProtocolType})
		theirs.Spec.GatewayClassName = "of-nobody-here"
		class := &gatewayv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: "of-nobody-here"}, Spec: gatewayv1.GatewayClassSpec{ControllerName: "example.com/other"}}
		set := &gatewayv1.ListenerSet{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "of-theirs"},
			Spec: gatewayv1.ListenerSetSpec{
				ParentRef: gatewayv1.ParentGatewayReference{Name: "of-theirs"}, Listeners: []gatewayv1.ListenerEntry{{Name: "http", Port: 8001, Protocol: gatewayv1.HTTPProtocolType}},
			},
		}
		east.with(class, theirs, set)
		set.Status.Conditions = []metav1.Condition{
			{Type: "Accepted", Status: metav1.ConditionTrue, Reason: "Accepted", Message: "theirs", ObservedGeneration: 1, LastTransitionTime: metav1.Now()},
			{Type: "Programmed", Status: metav1.ConditionTrue, Reason: "Programmed", Message: "theirs", ObservedGeneration: 1, LastTransitionTime: metav1.Now()},
		}
		Expect(east.Status().Update(ctx, set, client.FieldOwner("another-controller"))).To(Succeed())
		Expect(east.Delete(ctx, theirs)).To(Succeed())
		Consistently(func() string {
			if err := east.Get(context.Background(), client.ObjectKeyFromObject(set), set); err != nil {
				return err.Error()
			}
			return fmt.Sprint(set.Status.Conditions[0].Message, " ", set.Status.Conditions[1].Message)
		}, "2s").Should(Equal("theirs theirs"))
	})
})

// unfound finds nothing: the Gateway is another controller's.
type unfound struct{ findings }

func (unfound) Findings(world.Kind, string, string) []translate.Finding { return nil }

// orphaned finds that a ListenerSet waits for its Gateway.
type orphaned struct{ findings }

func (orphaned) Findings(world.Kind, string, string) []translate.Finding {
	return []translate.Finding{{Type: "Accepted", Status: "Unknown", Reason: "Pending"}, {Type: "Programmed", Status: "Unknown", Reason: "Pending"}}
}

func (orphaned) Listeners(world.Kind, string, string) []translate.ListenerState { return nil }
