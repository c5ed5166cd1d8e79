// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"net/url"
	"sync"

	"github.com/go-logr/logr"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds"
)

const controllerName = "isthmus-controller.isthmus-system.svc"

func id(namespace, account string) mesh.Identity {
	return mesh.Identity{TrustDomain: "cluster.local", Namespace: namespace, ServiceAccount: account}
}

// roots are those that a proxy would find in the ConfigMap.
func roots() *x509.CertPool {
	root := &corev1.ConfigMap{}
	if err := east.Get(context.Background(), client.ObjectKey{Namespace: system, Name: rootCertName}, root); err != nil {
		return nil
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(root.Data[rootCertKey]))
	return pool
}

// proxyPod makes the node proxy's pod on a node, with its account.
func proxyPod(name, node string) *corev1.Pod {
	GinkgoHelper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: "isthmus-nodeproxy"}}
	if err := east.Create(context.Background(), account); client.IgnoreAlreadyExists(err) != nil {
		Expect(err).NotTo(HaveOccurred())
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: name},
		Spec:       corev1.PodSpec{ServiceAccountName: account.Name, NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "i"}}},
	}
	east.with(pod)
	return pod
}

func callWith(token string) xds.ClientOptions {
	return xds.ClientOptions{
		Log: logr.Discard(), Target: control.address, ServerName: controllerName, RootCAs: roots, Cluster: "east",
		Token: func() (string, error) { return token, nil },
	}
}

// subscriber follows discovery as a node proxy does.
type subscriber struct {
	mu      sync.Mutex
	view    mesh.Snapshot
	removed int
}

func subscribe() *subscriber {
	GinkgoHelper()
	Eventually(roots).ShouldNot(BeNil())
	pod := proxyPod("isthmus-nodeproxy-sub", "node-1")
	s := &subscriber{view: mesh.NewSnapshot()}
	o := callWith(east.token(system, "isthmus-nodeproxy", tokenAudience, pod))
	o.Types = []xds.Type{xds.Addresses(), xds.Policies()}
	o.Apply = func(d mesh.Delta) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, w := range d.Workloads {
			if w == nil {
				s.removed++
			}
		}
		s.view.Apply(d)
		return nil
	}
	c := xds.NewClient(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.Run(ctx) // ends with ctx
	}()
	DeferCleanup(func() {
		cancel()
		<-done
	})
	Eventually(c.Synced()).Should(BeClosed())
	return s
}

func (s *subscriber) service(k mesh.ServiceKey) *mesh.Service {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view.Services[k]
}

// endpoints is the capacity of all workloads of a service.
func (s *subscriber) endpoints(k mesh.ServiceKey) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, w := range s.view.Workloads {
		if _, ok := w.Services[k]; ok {
			n += int(w.Capacity)
		}
	}
	return n
}

func (s *subscriber) removals() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.removed
}

func request(who mesh.Identity) []byte {
	GinkgoHelper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	Expect(err).NotTo(HaveOccurred())
	uri, err := url.Parse(who.String())
	Expect(err).NotTo(HaveOccurred())
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{uri}}, key)
	Expect(err).NotTo(HaveOccurred())
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

// issue asks for a certificate with a token.
func issue(token string, self, who mesh.Identity) error {
	GinkgoHelper()
	c, err := xds.NewCertificateClient(callWith(token), self)
	Expect(err).NotTo(HaveOccurred())
	defer c.Close()
	chain, err := c.Issue(context.Background(), who, request(who))
	if err == nil {
		Expect(len(chain)).To(BeNumerically(">=", 2))
		block, _ := pem.Decode([]byte(chain[0]))
		leaf, err := x509.ParseCertificate(block.Bytes)
		Expect(err).NotTo(HaveOccurred())
		Expect(leaf.URIs).To(HaveLen(1))
		Expect(leaf.URIs[0].String()).To(Equal(who.String()))
	}
	return err
}

var _ = Describe("Identities", func() {
	proxyIdentity := id(system, "isthmus-nodeproxy")

	It("are issued to who they belong to, and through a node proxy to pods of its own node", func(ctx SpecContext) {
		Eventually(roots).ShouldNot(BeNil())
		_, pod := east.runApp("default", "shop", "10.244.1.20", nil)
		east.with(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "shop"}})
		own := east.token("default", "shop", tokenAudience, pod)
		Expect(issue(own, id("default", "shop"), id("default", "shop"))).To(Succeed())

		here, elsewhere := proxyPod("proxy-here", "node-1"), proxyPod("proxy-elsewhere", "node-2")
		Expect(issue(east.token(system, "isthmus-nodeproxy", tokenAudience, here), proxyIdentity, id("default", "shop"))).To(Succeed())

		By("refusing everybody else")
		for what, try := range map[string]error{
			"another's identity":       issue(own, id("default", "shop"), id("default", "cart")),
			"a pod on another node":    issue(east.token(system, "isthmus-nodeproxy", tokenAudience, elsewhere), proxyIdentity, id("default", "shop")),
			"no such pod":              issue(east.token(system, "isthmus-nodeproxy", tokenAudience, here), proxyIdentity, id("default", "nobody")),
			"a token without a pod":    issue(east.token(system, "isthmus-nodeproxy", tokenAudience, nil), proxyIdentity, id("default", "shop")),
			"a token for other things": issue(east.token(system, "isthmus-nodeproxy", "", here), proxyIdentity, id("default", "shop")),
			"no token":                 issue("nonsense", proxyIdentity, id("default", "shop")),
		} {
			Expect(try).To(HaveOccurred(), what)
		}

		By("refusing a token whose pod is gone")
		token := east.token(system, "isthmus-nodeproxy", tokenAudience, here)
		Expect(east.Delete(ctx, here, client.GracePeriodSeconds(0))).To(Succeed())
		Eventually(func() error { return issue(token, proxyIdentity, id("default", "shop")) }).Should(HaveOccurred())
	})

	It("are needed to hear anything", func(ctx SpecContext) {
		Eventually(roots).ShouldNot(BeNil())
		o := callWith("nonsense")
		o.Types = []xds.Type{xds.Addresses()}
		heard := make(chan struct{}, 1)
		o.Apply = func(mesh.Delta) error { heard <- struct{}{}; return nil }
		c := xds.NewClient(o)
		bounded, cancel := context.WithTimeout(ctx, soon/30)
		defer cancel()
		Expect(c.Run(bounded)).To(MatchError(context.DeadlineExceeded))
		Expect(heard).To(BeEmpty())
	})
})

var _ = Describe("Discovery", func() {
	It("tells of local services, and of a label within two seconds", func(ctx SpecContext) {
		s := subscribe()
		key := mesh.ServiceKey{Namespace: "default", Hostname: "hello.default.svc.cluster.local"}
		east.runApp("default", "hello", "10.244.1.21", nil)
		Eventually(func() *mesh.Service { return s.service(key) }).ShouldNot(BeNil())
		Eventually(func() int { return s.endpoints(key) }).Should(Equal(1))
	})

	It("tells of endpoints that are no pods, such as the API server's", func(ctx SpecContext) {
		s := subscribe()
		outside := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "outside"},
			Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "https", Port: 443}}},
		}
		name, port, tcp := "https", int32(6443), corev1.ProtocolTCP
		slice := &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: "outside-1", Labels: map[string]string{discoveryv1.LabelServiceName: "outside"}},
			AddressType: discoveryv1.AddressTypeIPv4,
			Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &tcp}},
			Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"192.0.2.10"}}},
		}
		east.with(outside, slice)
		key := mesh.ServiceKey{Namespace: "default", Hostname: "outside.default.svc.cluster.local"}
		Eventually(func() int { return s.endpoints(key) }).Should(Equal(1))
		s.mu.Lock()
		defer s.mu.Unlock()
		w := s.view.Workloads["east/discovery.k8s.io/EndpointSlice/default/outside-1/192.0.2.10"]
		Expect(w).NotTo(BeNil())
		Expect(w.Tunnel).To(Equal(mesh.TunnelNone), "nobody there ends tunnels")
		Expect(w.Services[key]).To(ConsistOf(HaveField("Target", BeEquivalentTo(6443))))
	})

	It("explains a service without ports", func(ctx SpecContext) {
		headless := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "portless", Labels: map[string]string{"istio.io/global": "true"}},
			Spec:       corev1.ServiceSpec{ClusterIP: "None", Selector: map[string]string{"app": "portless"}},
		}
		east.with(headless)
		Eventually(func() string {
			Expect(east.Get(ctx, client.ObjectKeyFromObject(headless), headless)).To(Succeed())
			return verdict(headless.Status.Conditions, headless.Generation, "isthmus.dev/Accepted")
		}).Should(Equal("False/NoPorts"))
	})
})
