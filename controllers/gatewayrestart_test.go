// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// saidOf is all that a status says, with the times since when.
func saidOf(o client.Object) string {
	conditions := func(all []metav1.Condition) (out string) {
		for _, c := range all {
			out += fmt.Sprintf(" %s=%s/%s since %s: %s;", c.Type, c.Status, c.Reason, c.LastTransitionTime.UTC(), c.Message)
		}
		return out
	}
	out := ""
	switch o := o.(type) {
	case *gatewayv1.Gateway:
		out = conditions(o.Status.Conditions)
		for _, l := range o.Status.Listeners {
			out += "\n" + string(l.Name) + conditions(l.Conditions)
		}
		for _, a := range o.Status.Addresses {
			out += "\n" + a.Value
		}
	case *gatewayv1.ListenerSet:
		out = conditions(o.Status.Conditions)
		for _, l := range o.Status.Listeners {
			out += "\n" + string(l.Name) + conditions(l.Conditions)
		}
	case *corev1.Service:
		for _, p := range o.Spec.Ports {
			out += fmt.Sprintf(" %s %d", p.Name, p.Port)
		}
	case *appsv1.Deployment:
		out = fmt.Sprintf("generation %d", o.Generation)
	}
	return out
}

// sayings are what watches saw of objects, in order, by kind and name; what is seen twice in a row counts once.
type sayings struct {
	mu sync.Mutex
	of map[string][]string
}

func (s *sayings) note(o client.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, said := fmt.Sprintf("%T %s", o, o.GetName()), saidOf(o)
	if all := s.of[key]; len(all) == 0 || all[len(all)-1] != said {
		s.of[key] = append(all, said)
	}
}

// changed are those of which more than one thing was seen, but for what is made after the restart.
func (s *sayings) changed() map[string][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string][]string{}
	for k, all := range s.of {
		if len(all) > 1 && !strings.Contains(k, "after-") {
			out[k] = slices.Clone(all)
		}
	}
	return out
}

// watchFrom notes all that is seen of some kinds in a namespace, until the spec ends.
func (c *cluster) watchFrom(ctx SpecContext, namespace string, lists ...client.ObjectList) *sayings {
	GinkgoHelper()
	watching, err := client.NewWithWatch(c.Config, client.Options{Scheme: scheme})
	Expect(err).NotTo(HaveOccurred())
	seen := &sayings{of: map[string][]string{}}
	var all sync.WaitGroup
	DeferCleanup(all.Wait)
	for _, list := range lists {
		w, err := watching.Watch(ctx, list, client.InNamespace(namespace))
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(w.Stop)
		all.Go(func() {
			for e := range w.ResultChan() {
				if o, ok := e.Object.(client.Object); ok {
					seen.note(o)
				}
			}
		})
	}
	return seen
}

var _ = Describe("A control plane that restarts", Ordered, func() {
	It("says of Gateways what was said before, at no time anything else, and changes nothing that was made for them", func(ctx SpecContext) {
		north := startCluster()
		DeferCleanup(func() { Expect(north.Stop()).To(Succeed()) })
		north.prepare("north")
		account := north.kubeconfigFor(north.token(system, "isthmus-controller", "", nil))
		a := replica(account, "east")

		By("one that is in somebody's way, with a set")
		theirs := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "in-the-way"},
			Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "theirs"}, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
		}
		budgeted := eastwest("default", "budgeted")
		blocked := eastwest("default", "in-the-way")
		set := setOf(blocked)
		accountInTheWay := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "budgeted"}}
		north.create(theirs, accountInTheWay, blocked, set, budgeted)
		Eventually(north.gatewayVerdict(blocked, "Accepted")).Should(Equal("False/Invalid"))
		Eventually(north.gatewayVerdict(budgeted, "Programmed")).Should(Equal("False/Invalid"))

		By("one of which the API server refuses a part")
		refused, m := withParameters(eastwest("default", "refused"), "refused"), overlayMap("refused", "")
		refusedSet := setOf(refused)
		north.create(m, refused, refusedSet)
		Eventually(north.is(&corev1.Service{ObjectMeta: refused.ObjectMeta})).Should(BeTrue())
		Eventually(north.gatewayVerdict(refused, "Programmed")).Should(Equal("False/AddressNotAssigned"))
		edit(north, m, func(m *corev1.ConfigMap) { m.Data[world.OverlayKey] = "service: {loadBalancerClass: example.com/a}" })
		Eventually(func() string {
			north.gatewayVerdict(refused, "Programmed")()
			return message(refused.Status.Conditions, "Programmed")
		}).Should(ContainSubstring("refuses the Service"))

		By("one of which nothing is wrong, with parameters, a certificate and a set")
		secure := withParameters(eastwest("default", "secure", meshListener(), gatewayv1.Listener{
			Name: "https", Port: 443, Protocol: gatewayv1.HTTPSProtocolType,
			TLS: &gatewayv1.ListenerTLSConfig{CertificateRefs: []gatewayv1.SecretObjectReference{{Name: "secure"}}},
		}), "secure")
		secureSet := setOf(secure)
		north.create(overlayMap("secure", "service: {type: ClusterIP}\ndrain: 1h"), tlsSecret("default", "secure"), secure, secureSet)
		Eventually(north.gatewayVerdict(secure, "Programmed")).Should(Equal("True/Programmed"))
		service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "secure"}}
		Eventually(get(north, service)).Should(HaveField("Spec.Ports", HaveLen(3)))
		for _, pair := range []struct {
			gateway *gatewayv1.Gateway
			set     *gatewayv1.ListenerSet
			says    string
		}{
			{blocked, set, "0 attached, listener False/Pending; False/ParentNotAccepted False/ParentNotAccepted, entry False/Pending"},
			{refused, refusedSet, "1 attached, listener True/Programmed; True/Accepted False/ParentNotProgrammed, entry True/Programmed"},
			{secure, secureSet, "1 attached, listener True/Programmed; True/Accepted True/Programmed, entry True/Programmed"},
		} {
			Eventually(north.gatewayAndSet(pair.gateway, pair.set)).Should(Equal(pair.says))
		}

		for i := range 3 {
			By(fmt.Sprintf("restarting it, for the time %d", i+1))
			a.end()
			seen := north.watchFrom(ctx, "default", &gatewayv1.GatewayList{}, &gatewayv1.ListenerSetList{}, &corev1.ServiceList{}, &appsv1.DeploymentList{})
			a = replica(account, "east")
			Eventually(func() string {
				var lease coordinationv1.Lease
				_ = north.Get(ctx, client.ObjectKey{Namespace: system, Name: officeName}, &lease)
				return ptr.Deref(lease.Spec.HolderIdentity, "")
			}).ShouldNot(BeEmpty())
			after := eastwest("default", fmt.Sprint("after-", i)) // when it is looked at, so were the others
			north.create(after)
			Eventually(north.gatewayVerdict(after, "Programmed")).Should(Equal("False/AddressNotAssigned"))
			Consistently(seen.changed, "500ms").Should(BeEmpty())
		}

		By("restarting it with an authority that cannot be used")
		a.end()
		north.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: givenCA}, Data: map[string][]byte{"ca-cert.pem": []byte("broken")}})
		replica(account, "east")
		unsigned := eastwest("default", "unsigned")
		north.create(unsigned)
		Eventually(north.gatewayVerdict(unsigned, "Programmed")).Should(Equal("False/AddressNotAssigned"))
		Expect(north.is(&appsv1.Deployment{ObjectMeta: unsigned.ObjectMeta})()).To(BeTrue())
	})
})

// lookedAt is what was translated of one Gateway, of the UID "now" unless of says another one, and one set of it.
type lookedAt struct {
	findings
	plan *translate.GatewayPlan
	of   string
}

func (l lookedAt) Findings(world.Kind, string, string) []translate.Finding {
	out := []translate.Finding{{Type: "Accepted", Status: "True", Reason: "Accepted"}, {Type: "Programmed", Status: "True", Reason: "Programmed"}}
	for i := range out {
		out[i].UID = cmp.Or(l.of, "now")
	}
	for _, f := range out[:2] {
		f.Listener = "mesh"
		out = append(out, f)
	}
	return out
}
func (l lookedAt) Plan(string, string) *translate.GatewayPlan { return l.plan }
func (lookedAt) Addresses(string, string) ([]world.GatewayAddress, bool) {
	return []world.GatewayAddress{{Type: "IPAddress", Value: "192.0.2.1"}}, true
}
func (lookedAt) Listeners(world.Kind, string, string) []translate.ListenerState {
	return []translate.ListenerState{{Name: "mesh"}}
}
func (lookedAt) AttachedSets(string, string) (int, bool) { return 1, true }

// TestNothingIsSaidBeforeItIsLookedFor: what is in a Gateway's way is not known to a process that has just begun to lead, and what was said before stays meanwhile. Addresses do not wait.
func TestNothingIsSaidBeforeItIsLookedFor(t *testing.T) {
	g := eastwest("ns", "g")
	g.UID, g.Generation = "now", 1
	g.Status.Conditions = []metav1.Condition{{Type: "Accepted", Status: "False", Reason: "Invalid", ObservedGeneration: 1}, {Type: "Programmed", Status: "False", Reason: "Invalid", ObservedGeneration: 1}}
	g.Status.Addresses = []gatewayv1.GatewayStatusAddress{{Value: "192.0.2.7"}}
	s := setOf(g)
	var o obstacles
	p := lookedAt{plan: &translate.GatewayPlan{UID: "now"}}
	expect := func(what, gateway, set string) {
		t.Helper()
		fillGateway(g, p, &o)
		fillListenerSet(s, p, &o)
		if got := verdict(g.Status.Conditions, 1, "Accepted"); got != gateway {
			t.Errorf("%s: the Gateway is said to be %q, want %q", what, got, gateway)
		}
		if got := verdict(s.Status.Conditions, 0, "Accepted"); got != set {
			t.Errorf("%s: the set is said to be %q, want %q", what, got, set)
		}
		if a := g.Status.Addresses; len(a) != 1 || a[0].Value != "192.0.2.1" {
			t.Errorf("%s: the addresses are %v", what, a)
		}
	}
	expect("nobody has looked", "False/Invalid", "")
	earlier := g.DeepCopy()
	earlier.UID = "earlier"
	o.note(earlier, namesakes{})
	expect("an earlier one of the name was looked at", "False/Invalid", "")
	if !o.note(g, namesakes{staying: []string{"Service ns/g"}}) {
		t.Error("who writes the status is not told")
	}
	expect("something is in the way", "False/Invalid", "False/ParentNotAccepted")
	if o.tried(g) {
		t.Error("what was found is not known any more after it was looked for in vain")
	}
	expect("it was looked for again in vain", "False/Invalid", "False/ParentNotAccepted")
	if !o.note(g, namesakes{}) {
		t.Error("who writes the status is not told that it is over")
	}
	expect("nothing is in the way", "True/Accepted", "True/Accepted")

	g.Status.Conditions, s.Status.Conditions = nil, nil
	o = obstacles{}
	if !o.tried(g) || o.tried(g) {
		t.Error("who writes the status is to be told once")
	}
	expect("nothing is in the way, and not all could be made", "True/Accepted", "True/Accepted")

	g.Status.Conditions, s.Status.Conditions = nil, nil
	o, p.plan = obstacles{}, nil
	expect("nothing is to be made", "True/Accepted", "True/Accepted")
}

// TestWhatWasFoundOfAnEarlierGateway is not said of one that was made again under its name at once: of that one nothing was found yet.
func TestWhatWasFoundOfAnEarlierGateway(t *testing.T) {
	g := eastwest("ns", "g")
	g.UID, g.Generation = "now", 1
	p := lookedAt{plan: &translate.GatewayPlan{UID: "earlier"}, of: "earlier"}
	var o obstacles
	earlier := g.DeepCopy()
	earlier.UID = "earlier"
	o.note(earlier, namesakes{})
	if fillGateway(g, p, &o); len(g.Status.Conditions)+len(g.Status.Listeners)+len(g.Status.Addresses) != 0 || g.Status.AttachedListenerSets != nil {
		t.Errorf("what is said of it is %+v", g.Status)
	}
	p = lookedAt{plan: &translate.GatewayPlan{UID: "now"}}
	o.note(g, namesakes{})
	if fillGateway(g, p, &o); verdict(g.Status.Conditions, 1, "Programmed") != "True/Programmed" {
		t.Errorf("it was looked at, and what is said of it is %+v", g.Status)
	}
}
