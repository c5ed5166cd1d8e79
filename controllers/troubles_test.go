// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// trouble is one thing that can go wrong with a remote cluster, and what shall be seen of it.
type trouble struct {
	name string
	// begin lets it go wrong.
	begin func(*troubled)
	// first is about what is wrong before anything was read: begin is called first of all, and nothing of the cluster is in use.
	first bool
	// kubeconfig makes another one than usual.
	kubeconfig func(*troubled) []byte
	// twoDoors says that it can be reached at another address as well, see newFarDoors.
	twoDoors bool
	// limit is the cluster's staleness limit; past it nothing of the cluster is in use.
	limit time.Duration
	// connected and ready are how these conditions begin, "Status/Reason"; says is in the message of Ready, or of Connected if Ready is True.
	connected, ready, says string
	// passes is about what hinders nothing: changes arrive meanwhile.
	passes bool
	// end ends it; nil: wire and proxy do as they should again.
	end func(*troubled)
	// done checks more when all is over.
	done func(*troubled)
}

// troubled is a cluster of its own, as far as anybody can tell: an API server behind a wire and a proxy. Of what the API server has, it may say
// what is in one namespace.
type troubled struct {
	trouble
	id      string
	far     *farProxy
	wire    *farWire
	next    *farWire // of one with two doors: at another address, with the port of wire
	app     mesh.ServiceKey
	ghost   mesh.ServiceKey // a service that goes while there is trouble
	service *corev1.Service
	begun   time.Time
	note    string // whatever the trouble wants to remember
}

const troublesSecret = "troubles"

// newTroubled makes the nth.
func newTroubled(n int, t trouble) *troubled {
	GinkgoHelper()
	id := "t-" + strings.ToLower(strings.ReplaceAll(t.name, " ", "-"))
	c := &troubled{trouble: t, id: id, far: newFarProxy(west)}
	c.far.pretend(id)
	c.wire = newFarWire("127.0.0.1:0", c.far.Listener.Addr().String())
	if t.twoDoors {
		c.wire, c.next = newFarDoors(c.far.Listener.Addr().String())
	}
	c.app = mesh.ServiceKey{Namespace: id, Hostname: "app." + id + ".svc.cluster.local"}
	c.ghost = mesh.ServiceKey{Namespace: id, Hostname: "ghost." + id + ".svc.cluster.local"}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: id}}
	for _, where := range []*cluster{east, west} { // nobody ends namespaces here, so a second run may meet them
		Expect(client.IgnoreAlreadyExists(where.Create(context.Background(), namespace.DeepCopy()))).To(Succeed())
	}
	global := map[string]string{"istio.io/global": "true"}
	c.service, _ = west.runApp(id, "app", fmt.Sprint("10.244.7.", n), global)
	ghost, _, _ := app(id, "ghost", "", "node-1", global)
	west.with(ghost)
	return c
}

// asked guards what a cluster counts of the tokens that it gave.
var asked sync.Mutex

// usual leads over the wire and through the proxy.
func (c *troubled) usual() []byte {
	GinkgoHelper()
	asked.Lock()
	defer asked.Unlock()
	return c.through(c.far.kubeconfig())
}

// through puts the wire into a kubeconfig that leads to the proxy.
func (c *troubled) through(kubeconfig []byte) []byte {
	return []byte(strings.ReplaceAll(string(kubeconfig), c.far.URL, "https://"+c.wire.Addr().String()))
}

// link wants the cluster read.
func (c *troubled) link() {
	GinkgoHelper()
	if c.kubeconfig != nil {
		c.relink(c.kubeconfig(c))
	} else {
		c.relink(c.usual())
	}
	r := &v1alpha1.RemoteCluster{
		ObjectMeta: metav1.ObjectMeta{Name: c.id},
		Spec: v1alpha1.RemoteClusterSpec{
			SecretRef: v1alpha1.SecretKeyReference{Name: troublesSecret},
			Network:   c.id, // one each, so that they share no gateway
			Import:    &v1alpha1.ImportLimits{Namespaces: []string{c.id}},
		},
	}
	if c.limit > 0 {
		r.Spec.StalenessLimit = &metav1.Duration{Duration: c.limit}
	}
	east.with(r)
}

// relink writes another kubeconfig.
func (c *troubled) relink(kubeconfig []byte) {
	GinkgoHelper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: troublesSecret}}
	edit(east, secret, func(s *corev1.Secret) {
		if s.Data == nil {
			s.Data = map[string][]byte{}
		}
		s.Data[c.id] = kubeconfig
	})
}

// change gives the service another port, and takes the ghost away.
func (c *troubled) change(port int32) {
	GinkgoHelper()
	edit(west, c.service, func(s *corev1.Service) { s.Spec.Ports[0].Port = port })
	ghost := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: c.id, Name: "ghost"}}
	Expect(client.IgnoreNotFound(west.Delete(context.Background(), ghost))).To(Succeed())
}

// since says when a condition last changed its status.
func (c *troubled) since(kind string) time.Time {
	r := &v1alpha1.RemoteCluster{}
	if east.Get(context.Background(), client.ObjectKey{Name: c.id}, r) == nil {
		if found := meta.FindStatusCondition(r.Status.Conditions, kind); found != nil {
			return found.LastTransitionTime.Time
		}
	}
	return time.Time{}
}

// said is all that status says.
func (c *troubled) said() string {
	r := &v1alpha1.RemoteCluster{}
	if err := east.Get(context.Background(), client.ObjectKey{Name: c.id}, r); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%+v", r.Status)
}

// heal has wire and proxy do as they should.
func (c *troubled) heal() {
	c.far.misbehave(nil)
	c.wire.set(wirePasses)
}

// portOf is the first port of a service as proxies know it; 0 if they know none.
func (s *subscriber) portOf(k mesh.ServiceKey) int32 {
	if found := s.service(k); found != nil && len(found.Ports) > 0 {
		return int32(found.Ports[0].Service)
	}
	return 0
}

var _ = Describe("Troubles of remote clusters", Ordered, func() {
	var (
		proxy   *subscriber
		beat    *corev1.Service
		beatKey = mesh.ServiceKey{Namespace: "default", Hostname: "beat.default.svc.cluster.local"}
		calm    *troubled
		all     []*troubled
		begun   int // removals when all was well
	)
	each := func(do func(*troubled)) {
		var group sync.WaitGroup
		defer group.Wait()
		for _, c := range all {
			group.Go(func() {
				defer GinkgoRecover()
				do(c)
			})
		}
	}
	inUse := func(c *troubled) {
		GinkgoHelper()
		// Some thirty clusters are read at once, and twice that time was not enough once on a busy machine.
		Eventually(remoteVerdict(c.id, "Ready"), 4*soon).Should(HavePrefix("True/Ready"), c.name)
		Eventually(func() int { return proxy.endpoints(c.app) }).Should(Equal(1), func() string { return c.name + ": " + c.said() })
	}

	BeforeAll(func() {
		proxy = subscribe()
		beat, _ = east.runApp("default", "beat", "10.244.0.77", nil)
		gateway := eastwest(system, "troubles")
		west.with(gateway)
		class := &gatewayv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: "eastwest"}, Spec: gatewayv1.GatewayClassSpec{ControllerName: "isthmus.dev/gateway-controller"}}
		for _, o := range []client.Object{class, defaultScope()} {
			if west.Create(context.Background(), o) == nil { // else another part of the suite made it
				west.removeLater(o)
			}
		}
		editStatus(west, gateway, func(g *gatewayv1.Gateway) {
			kind := gatewayv1.IPAddressType
			g.Status.Addresses = []gatewayv1.GatewayStatusAddress{{Type: &kind, Value: "10.89.102.11"}}
			for i := range g.Status.Conditions {
				g.Status.Conditions[i].LastTransitionTime = metav1.Now()
			}
		})
		east.with(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: troublesSecret}})

		calm = newTroubled(1, trouble{name: "none"})
		calm.link()
		for i, t := range troubles() {
			all = append(all, newTroubled(2+i, t))
		}
		for _, c := range all {
			if c.first {
				c.begun = time.Now().Truncate(time.Second)
				c.begin(c)
			}
			c.link()
		}
		inUse(calm)
		for _, c := range all {
			if !c.first {
				inUse(c)
				Eventually(func() *mesh.Service { return proxy.service(c.ghost) }).ShouldNot(BeNil(), c.name)
			}
		}
		begun = proxy.removals()
		for _, c := range all {
			if !c.first {
				c.begun = time.Now().Truncate(time.Second)
				c.begin(c)
			}
		}
	})

	It("are said, each by its name", func() {
		each(func(c *troubled) {
			Eventually(remoteVerdict(c.id, "Connected")).Should(HavePrefix(c.connected), c.name)
			Eventually(remoteVerdict(c.id, "Ready")).Should(HavePrefix(c.ready), c.name)
			says := "Ready"
			if strings.HasPrefix(c.ready, "True") {
				says = "Connected"
			}
			Eventually(remoteVerdict(c.id, says)).Should(ContainSubstring(c.says), c.name)
			for kind, want := range map[string]string{"Connected": c.connected, "Ready": c.ready} {
				if strings.HasPrefix(want, "False") {
					Expect(c.since(kind)).To(BeTemporally(">=", c.begun), "%s: %s changed", c.name, kind)
				}
			}
		})
	})

	It("touch nobody else, and take nothing out of use", func() {
		for round := range int32(2) {
			port := 7000 + round
			edit(east, beat, func(s *corev1.Service) { s.Spec.Ports[0].Port = port })
			Eventually(func() int32 { return proxy.portOf(beatKey) }).Should(Equal(port), "our own cluster")
			calm.change(port)
			Eventually(func() int32 { return proxy.portOf(calm.app) }).Should(Equal(port), "a cluster without trouble")
		}
		each(func(c *troubled) {
			c.change(7000)
			switch {
			case c.passes:
				Eventually(func() int32 { return proxy.portOf(c.app) }).Should(BeEquivalentTo(7000), c.name)
			case c.first || c.limit > 0:
				Eventually(func() int { return proxy.endpoints(c.app) }).Should(Equal(0), c.name)
			default:
				Expect(proxy.endpoints(c.app)).To(Equal(1), c.name)
			}
		})
		limited := 0
		for _, c := range all {
			if c.limit > 0 {
				limited++
			}
		}
		Expect(proxy.removals()-begun).To(Equal(2*limited), "only what is past its limit leaves: its pods, seen as one, and its gateway")
		Expect(remoteVerdict(calm.id, "Ready")()).To(HavePrefix("True/Ready"))
	})

	It("end without anybody's doing, and leave nothing behind", func() {
		each(func(c *troubled) {
			if c.end != nil {
				c.end(c)
			} else {
				c.heal()
			}
			c.change(7777)
			inUse(c)
			Eventually(remoteVerdict(c.id, "Connected")).Should(HavePrefix("True/"), c.name)
			Eventually(func() int32 { return proxy.portOf(c.app) }).Should(BeEquivalentTo(7777), c.name)
			Eventually(func() *mesh.Service { return proxy.service(c.ghost) }).Should(BeNil(), c.name)
			if c.done != nil {
				c.done(c)
			}
		})
	})

	AfterAll(func(ctx SpecContext) { // before the wires end: what is left is removed in peace
		for _, c := range append(all, calm) {
			r := &v1alpha1.RemoteCluster{ObjectMeta: metav1.ObjectMeta{Name: c.id}}
			Expect(client.IgnoreNotFound(east.Delete(ctx, r))).To(Succeed())
		}
		for _, c := range append(all, calm) {
			Eventually(func() bool {
				return apierrors.IsNotFound(east.Get(ctx, client.ObjectKey{Name: c.id}, &v1alpha1.RemoteCluster{}))
			}).Should(BeTrue())
			Eventually(func() int { return proxy.endpoints(c.app) }).Should(Equal(0), fmt.Sprintf("%s is unlinked", c.name))
		}
	})
})
