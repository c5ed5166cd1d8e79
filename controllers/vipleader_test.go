// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/go-logr/logr"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// toldEvents are the notes of Events.
type toldEvents []string

func (e *toldEvents) Eventf(_, _ runtime.Object, _, reason, _, note string, args ...any) {
	*e = append(*e, reason+": "+fmt.Sprintf(note, args...))
}

// giver is one replica's VIPReconciler, which believes to lead. Whether it does is for the office to say.
type giver struct {
	*VIPReconciler
	wants  map[string]bool
	deaf   bool // it has not heard of the other cluster
	events toldEvents
	before func() // called before each write
}

// givers are replicas that share ConfigMaps of a real API server, and all that they ever told their proxies.
type givers struct {
	namespace string
	leader    *giver
	all       []*giver
	told      map[string]string // service → its addresses, for ever
	owners    map[string]string // address → its service, for ever
}

func newGivers(namespace string, n int) *givers {
	GinkgoHelper()
	east.with(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})
	g := &givers{namespace: namespace, told: map[string]string{}, owners: map[string]string{}}
	for i := range n {
		g.all = append(g.all, g.join(fmt.Sprint("replica-", i)))
	}
	g.leader = g.all[0]
	return g
}

// join makes a replica that knows nothing yet.
func (g *givers) join(name string) *giver {
	GinkgoHelper()
	direct, err := client.NewWithWatch(east.Config, client.Options{Scheme: scheme})
	Expect(err).NotTo(HaveOccurred())
	v := &giver{wants: map[string]bool{}}
	pause := func() {
		if f := v.before; f != nil {
			v.before = nil
			f()
		}
	}
	writes := interceptor.NewClient(direct, interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			pause()
			return c.Create(ctx, o, opts...)
		},
		Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			pause()
			return c.Update(ctx, o, opts...)
		},
	})
	closed := make(chan struct{})
	close(closed)
	v.VIPReconciler = &VIPReconciler{
		client: writes, reader: direct, namespace: g.namespace, store: world.NewStore(), leading: closed, complete: closed,
		want: func() map[mesh.ServiceKey][]world.Cluster {
			out := map[mesh.ServiceKey][]world.Cluster{}
			for name, wanted := range v.wants {
				if wanted {
					out[serviceKey(name)] = []world.Cluster{"far"}
				}
			}
			return out
		},
		heard: func() map[world.Cluster]heard { return map[world.Cluster]heard{"far": {all: !v.deaf}} }, identity: name, leads: func(context.Context) (bool, error) { return g.leader == v, nil },
		named:  func(c world.Cluster) string { return string(c) },
		events: &v.events, log: logr.Discard(), loaded: make(chan struct{}),
	}
	return v
}

// reconcile runs one replica, and checks what its proxies are told then.
func (g *givers) reconcile(v *giver) error {
	GinkgoHelper()
	_, err := v.Reconcile(context.Background(), ctrl.Request{})
	for _, ref := range v.store.Refs("") {
		o, _ := v.store.Get(ref)
		vip := o.(*world.VIP)
		service := ref.Namespace + "/" + ref.Name
		now := fmt.Sprint(vip.V4, vip.V6)
		if before, known := g.told[service]; known {
			Expect(now).To(Equal(before), "%s has another address, by %s", service, v.identity)
		}
		g.told[service] = now
		for _, address := range []string{vip.V4.String(), vip.V6.String()} {
			if owner, taken := g.owners[address]; taken {
				Expect(service).To(Equal(owner), "%s was given out twice, by %s", address, v.identity)
			}
			g.owners[address] = service
		}
	}
	return err
}

// settle runs the leader, and then everybody, until that works.
func (g *givers) settle() {
	GinkgoHelper()
	for _, v := range append([]*giver{g.leader}, g.all...) {
		Expect(g.reconcile(v)).To(Succeed())
	}
}

// damage does to a ConfigMap what a user could, and says what.
func (g *givers) damage(pick *rand.Rand) string {
	GinkgoHelper()
	ctx := context.Background()
	var there corev1.ConfigMapList
	Expect(east.List(ctx, &there, client.InNamespace(g.namespace))).To(Succeed())
	there.Items = slices.DeleteFunc(there.Items, func(m corev1.ConfigMap) bool { return len(m.Data) == 0 })
	if len(there.Items) == 0 {
		return "nothing"
	}
	m := &there.Items[pick.IntN(len(there.Items))]
	other := there.Items[pick.IntN(len(there.Items))]
	switch pick.IntN(5) {
	case 0:
		Expect(east.Delete(ctx, m)).To(Succeed())
		return "deleted"
	case 1:
		m.Data = nil
	case 2:
		for k := range m.Data {
			m.Data[k] = "?"
		}
	case 3:
		m.Annotations = nil
		m.Data = other.Data
	case 4: // each has the address of another
		values := []string{}
		for _, v := range m.Data {
			values = append(values, v)
		}
		i := 1
		for k := range m.Data {
			m.Data[k] = values[i%len(values)]
			i++
		}
	}
	Expect(east.Update(ctx, m)).To(Succeed())
	return "changed"
}

var _ = Describe("Addresses of services that exist elsewhere only", func() {
	// twins are two services that would get the same address if the other were not there.
	twins := func() (string, string) {
		seen := map[uint16]string{}
		for i := 0; ; i++ {
			name := fmt.Sprint("twin-", i)
			index, _ := freeVIP(serviceKey(name), &[1 << 16]bool{})
			if other, ok := seen[index]; ok {
				return other, name
			}
			seen[index] = name
		}
	}

	It("puts on a cluster's account what was written, and nothing else", func() {
		g := newGivers("vips-account", 2)
		v := g.all[1]
		v.budget, v.wants["a"] = newVIPBudget(), true
		spent := func() float64 {
			if limit := v.budget.clusters[clusterMark("far")[:exporterMark]]; limit != nil {
				return vipBurst - limit.TokensAt(time.Now())
			}
			return 0
		}
		Expect(g.reconcile(v)).To(Succeed())
		Expect(spent()).To(BeZero(), "it does not lead")
		g.leader = v
		Expect(g.reconcile(v)).To(Succeed())
		Expect(spent()).To(BeNumerically(">", 0.1))
		v.budget, v.wants["b"] = newVIPBudget(), true
		v.before = func() { // so that the versions that were read are no more
			g.leader = g.all[0]
			Expect(g.reconcile(g.leader)).To(Succeed())
		}
		Expect(g.reconcile(v)).NotTo(Succeed())
		Expect(spent()).To(BeZero(), "nothing was written")
	})

	It("are not given out by who was leader until a moment ago", func() {
		g := newGivers("vips-stale", 2)
		a, b := g.all[0], g.all[1]
		first, second := twins()
		a.wants["old"], b.wants["old"] = true, true
		g.settle()
		By("pausing the leader after it decided and before it writes, while another one takes over")
		a.wants[first] = true
		b.wants[second] = true
		a.before = func() {
			g.leader = b
			Expect(g.reconcile(b)).To(Succeed())
		}
		Expect(g.reconcile(a)).NotTo(Succeed(), "its write must meet the new leader's")
		Expect(g.reconcile(a)).To(Succeed())
		Expect(a.store.Refs("")).To(HaveLen(2), "it reads what the new leader gave out")
		By("going on as if it led")
		a.wants["more"] = true
		Expect(g.reconcile(a)).To(Succeed())
		Expect(g.told).NotTo(HaveKey("ns/more.ns.svc.cluster.local"))
		Expect(g.told).NotTo(HaveKey("ns/" + first + ".ns.svc.cluster.local"))
		b.wants[first], b.wants["more"] = true, true
		g.settle()
		Expect(g.told).To(HaveLen(4))
	})

	It("are not taken back by who was leader, or does not know every cluster yet", func() {
		g := newGivers("vips-back", 2)
		a, b := g.all[0], g.all[1]
		a.wants["s"], b.wants["s"] = true, true
		g.settle()
		By("the leader losing sight of the service, which the other replica still sees")
		a.wants["s"] = false
		g.settle()
		Expect(a.store.Refs("")).To(BeEmpty())
		Expect(b.store.Refs("")).To(HaveLen(1))
		a.wants["s"] = true
		g.settle()
		Expect(a.store.Refs("")).To(HaveLen(1))
		By("a new process, which has not read the other cluster yet")
		c := g.join("restarted")
		c.deaf = true
		g.leader = c
		Expect(g.reconcile(c)).To(Succeed())
		Expect(c.store.Refs("")).To(HaveLen(1))
		c.deaf = false
		Expect(g.reconcile(c)).To(Succeed())
		Expect(c.store.Refs("")).To(BeEmpty(), "the service is gone")
	})

	It("are put back when somebody changes or deletes them, and an Event says so", func(ctx SpecContext) {
		g := newGivers("vips-damage", 2)
		for _, v := range g.all {
			v.wants["s"] = true
		}
		g.settle()
		address := g.told["ns/s.ns.svc.cluster.local"]
		var there corev1.ConfigMapList
		Expect(east.List(ctx, &there, client.InNamespace(g.namespace))).To(Succeed())
		i := slices.IndexFunc(there.Items, func(m corev1.ConfigMap) bool { return len(m.Data) > 0 })
		m := &there.Items[i]
		mine := m.Data[serviceKey("s").Hostname]
		m.Data[serviceKey("s").Hostname] = `{"namespace":"ns","v4":"240.240.77.1","v6":"fd6d:6573:68f0::4d01"}`
		Expect(east.Update(ctx, m)).To(Succeed())
		Expect(g.reconcile(g.all[1])).To(Succeed(), "the other replica goes on with what it knows")
		g.settle()
		Expect(g.told["ns/s.ns.svc.cluster.local"]).To(Equal(address))
		Expect(east.Get(ctx, client.ObjectKeyFromObject(m), m)).To(Succeed())
		Expect(m.Data).To(Equal(map[string]string{serviceKey("s").Hostname: mine}))
		Expect(g.leader.events).To(ConsistOf(And(HavePrefix("AddressesDamaged: "), ContainSubstring(m.Name), ContainSubstring("1 addresses were put back"))))
	})

	It("never change and are never shared, whatever happens in which order", func() {
		seed := uint64(time.Now().UnixNano())
		GinkgoWriter.Println("seed", seed)
		pick := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a test's
		g := newGivers("vips-random", 3)
		first, second := twins()
		names := []string{first, second}
		for i := range 40 {
			names = append(names, fmt.Sprint("s", i))
		}
		for range 60 {
			for range 1 + pick.IntN(4) { // services never leave for long here: an hour is too long for a test
				name := names[pick.IntN(len(names))]
				for _, v := range g.all {
					v.wants[name] = v.wants[name] || pick.IntN(2) == 0
				}
			}
			v := g.all[pick.IntN(len(g.all))]
			switch pick.IntN(4) {
			case 0: // the office changes hands between a decision and its writing
				v.before = func() {
					g.leader = g.all[pick.IntN(len(g.all))]
					_ = g.reconcile(g.leader)
				}
			case 1:
				g.settle()
				g.damage(pick)
			case 2:
				g.leader = g.all[pick.IntN(len(g.all))]
			}
			_ = g.reconcile(v) // a write that fails is tried again
			v.before = nil
		}
		for _, v := range g.all {
			for _, name := range names {
				v.wants[name] = true
			}
		}
		g.settle()
		Expect(g.told).To(HaveLen(len(names)))
	})
})
