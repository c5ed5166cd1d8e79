// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"net"
	"runtime"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// token gives a token of a service account, bound to a pod if one is given.
func (c *cluster) token(namespace, account, audience string, pod *corev1.Pod) string {
	GinkgoHelper()
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To(3600 + c.tokenLife)}}
	if audience != "" {
		request.Spec.Audiences = []string{audience}
	}
	if pod != nil {
		request.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID}
	}
	got, err := c.clientset.CoreV1().ServiceAccounts(namespace).CreateToken(context.Background(), account, request, metav1.CreateOptions{})
	Expect(err).NotTo(HaveOccurred())
	return got.Status.Token
}

// kubeconfigFor gives a kubeconfig of the cluster with a token.
func (c *cluster) kubeconfigFor(token string, change ...func(*clientcmdapi.Cluster, *clientcmdapi.AuthInfo)) []byte {
	GinkgoHelper()
	far := &clientcmdapi.Cluster{Server: c.Config.Host, CertificateAuthorityData: c.Config.CAData}
	user := &clientcmdapi.AuthInfo{Token: token}
	for _, f := range change {
		f(far, user)
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["c"], config.AuthInfos["u"] = far, user
	config.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
	config.CurrentContext = "x"
	data, err := clientcmd.Write(*config)
	Expect(err).NotTo(HaveOccurred())
	return data
}

// readerKubeconfig has a new token each time, which lives an hour longer than the one before.
func (c *cluster) readerKubeconfig() []byte {
	GinkgoHelper()
	c.tokenLife += 3600
	return c.kubeconfigFor(c.token(system, "isthmus-reader", "", nil))
}

func remoteSecret(name string, data map[string][]byte) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: name, Labels: map[string]string{remoteSecretLabel: "true"}},
		Data:       data,
	}
}

// remoteVerdict is "Status/Reason: message" of a condition of a RemoteCluster.
func remoteVerdict(name, kind string) func() string {
	return func() string {
		r := &v1alpha1.RemoteCluster{}
		if err := east.Get(context.Background(), client.ObjectKey{Name: name}, r); err != nil {
			return err.Error()
		}
		return verdict(r.Status.Conditions, r.Generation, kind) + ": " + message(r.Status.Conditions, kind)
	}
}

// app makes a service with one ready pod that is enrolled.
func app(namespace, name, ip, node string, labels map[string]string) (*corev1.Service, *corev1.Pod, *discoveryv1.EndpointSlice) {
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": name}, Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)}}},
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: name + "-1", Labels: map[string]string{"app": name},
			Annotations: map[string]string{"ambient.istio.io/redirection": "enabled"},
		},
		Spec: corev1.PodSpec{ServiceAccountName: name, NodeName: node, Containers: []corev1.Container{{Name: "app", Image: "app"}}},
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: namespace, Name: name + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr.To("http"), Port: ptr.To[int32](8080), Protocol: ptr.To(corev1.ProtocolTCP)}},
		Endpoints: []discoveryv1.Endpoint{{
			Addresses: []string{ip}, Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true)}, NodeName: ptr.To(node),
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: pod.Name},
		}},
	}
	return service, pod, slice
}

// runApp creates what app gives and makes the pod ready.
func (c *cluster) runApp(namespace, name, ip string, labels map[string]string) (*corev1.Service, *corev1.Pod) {
	GinkgoHelper()
	service, pod, slice := app(namespace, name, ip, "node-1", labels)
	c.with(service, pod, slice)
	editStatus(c, pod, func(p *corev1.Pod) {
		p.Status.Phase, p.Status.PodIP, p.Status.PodIPs = corev1.PodRunning, ip, []corev1.PodIP{{IP: ip}}
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	})
	return service, pod
}

var _ = Describe("Remote clusters", Ordered, func() {
	var proxy *subscriber
	var service *corev1.Service
	hostname := mesh.ServiceKey{Namespace: "default", Hostname: "only-west.default.svc.cluster.local"}

	BeforeAll(func(ctx SpecContext) {
		proxy = subscribe()
		// West: a global service that east does not have, and an east-west gateway with an address.
		west.create(&gatewayv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: "eastwest"}, Spec: gatewayv1.GatewayClassSpec{ControllerName: "isthmus.dev/gateway-controller"}})
		west.create(defaultScope())
		g := eastwest(system, "eastwest")
		g.Labels = map[string]string{networkLabel: "west"}
		west.with(g)
		editStatus(west, g, func(g *gatewayv1.Gateway) {
			kind := gatewayv1.IPAddressType
			g.Status.Addresses = []gatewayv1.GatewayStatusAddress{{Type: &kind, Value: "10.89.102.1"}}
			for i := range g.Status.Conditions {
				g.Status.Conditions[i].LastTransitionTime = metav1.Now()
			}
		})
		service, _ = west.runApp("default", "only-west", "10.244.1.7", map[string]string{"istio.io/global": "true"})
	})

	It("come from a labelled Secret, and go with it", func(ctx SpecContext) {
		before := runtime.NumGoroutine()
		secret := remoteSecret("isthmus-remote-west", map[string][]byte{"west": west.readerKubeconfig()})
		east.create(secret)
		east.removeLater(secret)
		Eventually(remoteVerdict("west", "Ready")).Should(HavePrefix("True/Ready"))
		r := &v1alpha1.RemoteCluster{}
		Eventually(func() int32 {
			Expect(east.Get(ctx, client.ObjectKey{Name: "west"}, r)).To(Succeed())
			return r.Status.Services
		}).Should(BeEquivalentTo(1))
		Expect(r.Labels).To(HaveKeyWithValue(fromSecretLabel, secret.Name))
		Expect(r.Status.Network).To(Equal("west"))
		Expect(r.Status.Endpoints).To(BeEquivalentTo(1))
		Expect(r.Status.APIServerVersion).To(HavePrefix("v1."))
		Expect(r.Status.CredentialExpiry).NotTo(BeNil())

		By("finding the remote-only service with an address of ours, behind west's gateway")
		Eventually(func() *mesh.Service { return proxy.service(hostname) }).ShouldNot(BeNil())
		Expect(proxy.service(hostname).Addresses).NotTo(BeEmpty())
		Expect(vipRange.Contains(proxy.service(hostname).Addresses[0].Addr) || vipRange6.Contains(proxy.service(hostname).Addresses[0].Addr)).To(BeTrue())
		Eventually(func() int { return proxy.endpoints(hostname) }).Should(Equal(1))

		By("losing the ConfigMap that holds the address: it is written again, and the address stays")
		address := proxy.service(hostname).Addresses[0].Addr
		kept := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: shardName(shardOf(address))}}
		Expect(east.Get(ctx, client.ObjectKeyFromObject(kept), kept)).To(Succeed())
		entry := kept.Data[hostname.Hostname]
		Expect(entry).To(ContainSubstring(vipRange.Addr().String()[:8]))
		Expect(east.Delete(ctx, kept.DeepCopy())).To(Succeed())
		Eventually(func() string {
			again := &corev1.ConfigMap{}
			if east.Get(ctx, client.ObjectKeyFromObject(kept), again) != nil || again.UID == kept.UID {
				return ""
			}
			return again.Data[hostname.Hostname]
		}).Should(Equal(entry))
		Expect(proxy.service(hostname).Addresses[0].Addr).To(Equal(address))

		By("moving an entry into the ConfigMap that once held all: it is taken back to where it belongs")
		if kept.Name != vipsName {
			first := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: vipsName}}
			edit(east, first, func(m *corev1.ConfigMap) { m.Data = map[string]string{hostname.Hostname: entry} })
			Eventually(func() map[string]string {
				Expect(east.Get(ctx, client.ObjectKeyFromObject(first), first)).To(Succeed())
				return first.Data // others' entries may belong there
			}).ShouldNot(HaveKey(hostname.Hostname))
			Expect(proxy.service(hostname).Addresses[0].Addr).To(Equal(address))
		}

		By("changing the credential: nothing leaves meanwhile")
		mark := proxy.removals()
		edit(east, secret, func(s *corev1.Secret) { s.Data["west"] = west.readerKubeconfig() })
		Eventually(func() bool {
			now := &v1alpha1.RemoteCluster{}
			Expect(east.Get(ctx, client.ObjectKey{Name: "west"}, now)).To(Succeed())
			return now.Status.CredentialExpiry.After(r.Status.CredentialExpiry.Time)
		}).Should(BeTrue())
		Consistently(func() int { return proxy.endpoints(hostname) }, "1s").Should(Equal(1))
		Expect(proxy.removals()).To(Equal(mark))

		By("breaking the credential: the previous one stays in use")
		good := secret.DeepCopy()
		edit(east, secret, func(s *corev1.Secret) { s.Data["west"] = []byte("{") })
		Eventually(remoteVerdict("west", "Ready")).Should(And(HavePrefix("False/InvalidKubeconfig"), ContainSubstring("previous kubeconfig stays in use")))
		Expect(proxy.endpoints(hostname)).To(Equal(1))
		edit(east, secret, func(s *corev1.Secret) { s.Data = good.Data })
		Eventually(remoteVerdict("west", "Ready")).Should(HavePrefix("True/Ready"))

		By("taking the label from the service")
		edit(west, service, func(s *corev1.Service) { delete(s.Labels, "istio.io/global") })
		Eventually(func() *mesh.Service { return proxy.service(hostname) }).Should(BeNil())
		edit(west, service, func(s *corev1.Service) { s.Labels = map[string]string{"istio.io/global": "true"} })
		Eventually(func() int { return proxy.endpoints(hostname) }).Should(Equal(1))

		By("removing the Secret: endpoints leave, and so does everything else")
		Expect(east.Delete(ctx, secret)).To(Succeed())
		Eventually(func() int { return proxy.endpoints(hostname) }).Should(Equal(0))
		Eventually(func() bool { return apierrors.IsNotFound(east.Get(ctx, client.ObjectKey{Name: "west"}, r)) }).Should(BeTrue())
		Eventually(stacks).ShouldNot(ContainSubstring("controllers.(*connection)"))
		Eventually(runtime.NumGoroutine).Should(BeNumerically("<=", before+20), "no goroutine of the remote's cache is left")
	})

	It("say why they cannot be used", func(ctx SpecContext) {
		closed, err := net.Listen("tcp", "127.0.0.1:0")
		Expect(err).NotTo(HaveOccurred())
		Expect(closed.Close()).To(Succeed())
		west.with(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: "nobody"}})
		secret := remoteSecret("several", map[string][]byte{
			"broken": []byte("this: is: not"),
			"exec": west.kubeconfigFor("t", func(_ *clientcmdapi.Cluster, u *clientcmdapi.AuthInfo) {
				u.Exec = &clientcmdapi.ExecConfig{APIVersion: "client.authentication.k8s.io/v1", Command: "/bin/sh", InteractiveMode: clientcmdapi.NeverExecInteractiveMode}
			}),
			"insecure": west.kubeconfigFor("t", func(c *clientcmdapi.Cluster, _ *clientcmdapi.AuthInfo) {
				c.InsecureSkipTLSVerify, c.CertificateAuthorityData = true, nil
			}),
			"unreachable": west.kubeconfigFor("t", func(c *clientcmdapi.Cluster, _ *clientcmdapi.AuthInfo) {
				c.Server = "https://" + closed.Addr().String()
			}),
			"unknown":   west.kubeconfigFor("not-a-token"),
			"forbidden": west.kubeconfigFor(west.token(system, "nobody", "", nil)),
			"east":      east.readerKubeconfig(),
			"mirror":    east.readerKubeconfig(),
		})
		east.with(secret)
		for name, want := range map[string]string{
			"broken":      "False/InvalidKubeconfig: not a kubeconfig",
			"exec":        `False/ForbiddenKubeconfig: users["u"].user.exec`,
			"insecure":    `False/ForbiddenKubeconfig: clusters["c"].cluster.insecure-skip-tls-verify`,
			"unreachable": "False/Unreachable: ",
			"unknown":     "False/Unauthorized: ",
			"forbidden":   "False/Forbidden: ",
			"east":        "False/Self: ",
			"mirror":      "False/Self: ",
		} {
			Eventually(remoteVerdict(name, "Ready")).Should(HavePrefix(want), name)
		}
		By("everything else keeps working")
		east.with(remoteSecret("good", map[string][]byte{"west": west.readerKubeconfig()}))
		Eventually(remoteVerdict("west", "Ready")).Should(HavePrefix("True/Ready"))

		By("refusing a second Secret for the same cluster, by its id and by its true identity")
		east.with(remoteSecret("second", map[string][]byte{"west": west.readerKubeconfig(), "alias": west.readerKubeconfig()}))
		Eventually(remoteVerdict("alias", "Ready")).Should(And(HavePrefix("False/Duplicate"), ContainSubstring(`"west"`)))
		Eventually(func() []string {
			var all v1alpha1.RemoteClusterList
			Expect(east.List(ctx, &all, client.MatchingLabels{fromSecretLabel: "second"})).To(Succeed())
			var out []string
			for _, r := range all.Items {
				if strings.HasPrefix(r.Name, "west-") {
					out = append(out, verdict(r.Status.Conditions, r.Generation, "Ready")+": "+message(r.Status.Conditions, "Ready"))
				}
			}
			return out
		}).Should(ConsistOf(And(HavePrefix("False/Duplicate"), ContainSubstring(`"good"`))))
		Expect(remoteVerdict("west", "Ready")()).To(HavePrefix("True/Ready"))
	})

	It("may be written by hand, with limits", func(ctx SpecContext) {
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: "plain"}, Data: map[string][]byte{"west": west.readerKubeconfig()}}
		r := &v1alpha1.RemoteCluster{
			ObjectMeta: metav1.ObjectMeta{Name: "far"},
			Spec: v1alpha1.RemoteClusterSpec{
				SecretRef: v1alpha1.SecretKeyReference{Name: "plain", Key: "west"},
				Import:    &v1alpha1.ImportLimits{Namespaces: []string{"nothing-here"}},
			},
		}
		east.with(r)
		Eventually(remoteVerdict("far", "Ready")).Should(And(HavePrefix("False/SecretNotFound"), ContainSubstring("spec.secretRef.name")))
		east.with(secret)
		Eventually(remoteVerdict("far", "Ready")).Should(HavePrefix("True/Ready"))
		Consistently(func() int { return proxy.endpoints(hostname) }, "300ms").Should(Equal(0))
		edit(east, r, func(r *v1alpha1.RemoteCluster) { r.Spec.Import = nil })
		Eventually(func() int { return proxy.endpoints(hostname) }).Should(Equal(1))

		By("being of another trust domain, whose roots it lacks")
		sans := func() []string {
			if s := proxy.service(hostname); s != nil {
				return s.SANs
			}
			return nil
		}
		Expect(sans()).To(ConsistOf(HavePrefix("spiffe://cluster.local/")))
		edit(east, r, func(r *v1alpha1.RemoteCluster) { r.Spec.TrustDomain = "west.example" })
		Eventually(sans).Should(ConsistOf(HavePrefix("spiffe://west.example/")))
		Eventually(remoteVerdict("far", "Ready")).Should(And(HavePrefix("False/NoRoots"), ContainSubstring(trustDomainLabel+"=west.example")))
		_, root := strangers()
		east.with(&corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: "roots-west", Labels: map[string]string{trustDomainLabel: "west.example"}},
			Data:       map[string]string{"ca.crt": string(root)},
		})
		Eventually(remoteVerdict("far", "Ready")).Should(HavePrefix("True/Ready"))
	})
})

// stacks gives the stacks of all goroutines.
func stacks() string {
	buffer := make([]byte, 4<<20)
	return string(buffer[:runtime.Stack(buffer, true)])
}
