// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/go-logr/logr"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// gapless is a discovery server that notes whenever a Gateway's listener is without a certificate, or its backend without what the policy says.
type gapless struct {
	published
	mu    sync.Mutex
	last  string
	holes []string
}

func (g *gapless) Update(d mesh.Delta) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, told := range d.Gateways {
		if told == nil || len(told.Listeners) == 0 {
			g.holes = append(g.holes, "no listener")
			continue
		}
		chain, cas := "", ""
		if l := told.Listeners[0]; len(l.Certificates) == 1 {
			chain = l.Certificates[0].Chain
		}
		for _, b := range told.BackendTLS {
			if cas += b.CAs; b.Problem != "" {
				g.holes = append(g.holes, b.Problem)
			}
		}
		if chain == "" {
			g.holes = append(g.holes, "no certificate")
		}
		g.last = chain + cas
	}
}

func (g *gapless) says() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.last
}

var _ = Describe("References", func() {
	It("turn to what was not read before without a gap", func(ctx SpecContext) {
		const most = 8
		var chains, cas []string
		for i := range most {
			secret := tlsSecret("default", fmt.Sprint("turn-", i))
			chains = append(chains, string(secret.Data[corev1.TLSCertKey]))
			ca := string(tlsSecret("default", "unused").Data[corev1.TLSCertKey])
			cas = append(cas, ca)
			east.with(secret, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("turn-", i)}, Data: map[string]string{world.KeyAnchors: ca}})
		}
		key := func(name string) world.Key { return world.Key{Cluster: "east", Namespace: "default", Name: name} }
		gateway := func(certificate string) *world.Gateway {
			return &world.Gateway{Key: key("turns"), Class: translate.ClassEastWest, Listeners: []world.Listener{{
				Name: "web", Port: 443, Protocol: "HTTPS", HasTLS: true, TLSMode: "Terminate",
				Certificates: []world.SecretRef{{Kind: "Secret", Namespace: "default", Name: certificate}},
			}}}
		}
		policy := func(ca string) *world.BackendTLSPolicy {
			return &world.BackendTLSPolicy{Key: key("turns"), Hostname: "a.example.com", Targets: []world.NamedPort{{Service: "turns"}},
				CAs: []world.SecretRef{{Kind: "ConfigMap", Namespace: "default", Name: ca}}}
		}
		store, told := world.NewStore(), &gapless{}
		secrets := NewSecrets(east.clientset, store, logr.Discard())
		p := NewPipeline(store, testWorld, told, func() (bool, []world.Cluster) { return true, nil }, func(c translate.Change) { secrets.Want(c.Objects) }, logr.Discard())
		p.reads = true
		running, stop := context.WithCancel(ctx)
		var wait sync.WaitGroup
		defer wait.Wait()
		defer stop()
		wait.Go(func() { _ = secrets.Start(running) })
		wait.Go(func() { _ = p.Start(running) })
		for _, o := range []world.Object{
			&world.GatewayClass{Key: world.Key{Cluster: "east", Name: translate.ClassEastWest}, Controller: translate.ControllerName},
			&world.Service{Key: key("turns"), Ports: []world.ServicePort{{Name: "http", Port: 80}}}, httpRouteTo("turns", "turns"), gateway("turn-0"),
		} {
			store.Put(o)
		}
		Eventually(told.says).Should(Equal(chains[0]))
		told.mu.Lock()
		told.holes = nil // nothing was served before
		told.mu.Unlock()
		for i := range most {
			store.Put(policy(fmt.Sprint("turn-", i)))
			Eventually(told.says).Should(Equal(chains[i] + cas[i]))
			if i+1 < most {
				store.Put(gateway(fmt.Sprint("turn-", i+1)))
				Eventually(told.says).Should(Equal(chains[i+1] + cas[i]))
			}
		}
		Expect(strings.Join(told.holes, "\n")).To(BeEmpty())

		By("saying that one is not there")
		store.Put(gateway("turn-nowhere"))
		Eventually(told.says).Should(Equal(cas[most-1]))
		Expect(told.holes).To(Equal([]string{"no certificate"}))
	})
})

// httpRouteTo is a route of a Gateway of its namespace to port 80 of a Service there.
func httpRouteTo(gateway, service string) *world.HTTPRoute {
	return world.Reduce("east", &gatewayv1.HTTPRoute{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: service},
		Spec: gatewayv1.HTTPRouteSpec{
			CommonRouteSpec: gatewayv1.CommonRouteSpec{ParentRefs: []gatewayv1.ParentReference{{Name: gatewayv1.ObjectName(gateway)}}},
			Rules: []gatewayv1.HTTPRouteRule{{BackendRefs: []gatewayv1.HTTPBackendRef{{BackendRef: gatewayv1.BackendRef{
				BackendObjectReference: gatewayv1.BackendObjectReference{Name: gatewayv1.ObjectName(service), Port: ptr.To[gatewayv1.PortNumber](80)},
			}}}}},
		},
	}).(*world.HTTPRoute)
}
