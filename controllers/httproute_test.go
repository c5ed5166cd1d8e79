// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/translate"
)

// routeVerdict is a condition of a route at its parent from us; "" while it is not there or about an older generation.
func (c *cluster) routeVerdict(r *gatewayv1.HTTPRoute, kind string) func() string {
	return func() string {
		if err := c.Get(context.Background(), client.ObjectKeyFromObject(r), r); err != nil {
			return err.Error()
		}
		for _, p := range r.Status.Parents {
			if p.ControllerName == translate.ControllerName {
				return verdict(p.Conditions, r.Generation, kind)
			}
		}
		return ""
	}
}

// listenerStatus is a condition of a listener, how many routes it has, and their kinds.
func (c *cluster) listenerStatus(g *gatewayv1.Gateway, name, kind string) func() string {
	return func() string {
		if err := c.Get(context.Background(), client.ObjectKeyFromObject(g), g); err != nil {
			return err.Error()
		}
		for _, l := range g.Status.Listeners {
			if string(l.Name) == name {
				kinds := ""
				for _, k := range l.SupportedKinds {
					kinds += " " + string(k.Kind)
				}
				return fmt.Sprintf("%s %d%s", verdict(l.Conditions, g.Generation, kind), l.AttachedRoutes, kinds)
			}
		}
		return ""
	}
}

// tlsSecret holds a certificate that proves itself.
func tlsSecret(namespace, name string) *corev1.Secret {
	GinkgoHelper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	Expect(err).NotTo(HaveOccurred())
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"a.example.com"}, NotAfter: time.Now().Add(time.Hour)}
	chain, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	Expect(err).NotTo(HaveOccurred())
	private, err := x509.MarshalPKCS8PrivateKey(key)
	Expect(err).NotTo(HaveOccurred())
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{
			corev1.TLSCertKey:       pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: chain}),
			corev1.TLSPrivateKeyKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		},
	}
}

var _ = Describe("HTTPRoutes", func() {
	It("attach, say what is missing, and leave the words of others alone", func(ctx SpecContext) {
		g := eastwest("default", "web", gatewayv1.Listener{Name: "http", Port: 80, Protocol: gatewayv1.HTTPProtocolType})
		east.with(g)
		Eventually(east.listenerStatus(g, "http", "Accepted")).Should(Equal("True/Accepted 0 HTTPRoute GRPCRoute"))
		service := &corev1.Service{}
		Eventually(func() error { return east.Get(ctx, client.ObjectKeyFromObject(g), service) }).Should(Succeed())
		east.removeLater(service)
		Expect(service.Spec.Ports).To(HaveLen(1))
		Expect(service.Spec.Ports[0].Port).To(BeEquivalentTo(80))
		Expect(service.Spec.Ports[0].TargetPort.IntValue()).To(Equal(20080), "a process without rights cannot listen below 1024")

		r := &gatewayv1.HTTPRoute{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
			Spec: gatewayv1.HTTPRouteSpec{
				CommonRouteSpec: gatewayv1.CommonRouteSpec{ParentRefs: []gatewayv1.ParentReference{{Name: "web"}, {Name: "somebody-elses"}}},
				Rules: []gatewayv1.HTTPRouteRule{{BackendRefs: []gatewayv1.HTTPBackendRef{{BackendRef: gatewayv1.BackendRef{
					BackendObjectReference: gatewayv1.BackendObjectReference{Name: "backend", Port: ptr.To[gatewayv1.PortNumber](80)},
				}}}}},
			},
		}
		east.with(r)
		Eventually(east.routeVerdict(r, "Accepted")).Should(Equal("True/Accepted"))
		Eventually(east.routeVerdict(r, "ResolvedRefs")).Should(Equal("False/BackendNotFound"))
		Eventually(east.listenerStatus(g, "http", "Programmed")).Should(HaveSuffix(" 1 HTTPRoute GRPCRoute"))
		Expect(r.Status.Parents).To(HaveLen(1), "a Gateway that is not ours is not ours to speak of")
		Expect(r.Status.Parents[0].ParentRef).To(Equal(r.Spec.ParentRefs[0]))

		foreign := gatewayv1.RouteParentStatus{
			ParentRef: r.Spec.ParentRefs[1], ControllerName: "example.com/other",
			Conditions: []metav1.Condition{{Type: "Odd", Status: metav1.ConditionTrue, Reason: "Odd", LastTransitionTime: metav1.NewTime(metav1.Now().Rfc3339Copy().Local()), ObservedGeneration: 1}},
		}
		editStatus(east, r, func(r *gatewayv1.HTTPRoute) { r.Status.Parents = append(r.Status.Parents, foreign) })
		east.with(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "backend"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}})
		Eventually(east.routeVerdict(r, "ResolvedRefs")).Should(Equal("True/ResolvedRefs"))
		edit(east, r, func(r *gatewayv1.HTTPRoute) {
			r.Spec.ParentRefs[0].SectionName = ptr.To[gatewayv1.SectionName]("nope")
		})
		Eventually(east.routeVerdict(r, "Accepted")).Should(Equal("False/NoMatchingParent"))
		Eventually(east.listenerStatus(g, "http", "Accepted")).Should(Equal("True/Accepted 0 HTTPRoute GRPCRoute"))
		Expect(r.Status.Parents).To(ContainElement(foreign))
		edit(east, r, func(r *gatewayv1.HTTPRoute) { r.Spec.ParentRefs = r.Spec.ParentRefs[1:] })
		Eventually(func() []gatewayv1.RouteParentStatus {
			Expect(east.Get(ctx, client.ObjectKeyFromObject(r), r)).To(Succeed())
			return r.Status.Parents
		}).Should(Equal([]gatewayv1.RouteParentStatus{foreign}))
	})

	It("are served with the certificates that listeners refer to, and may", func(ctx SpecContext) {
		east.with(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "certificates"}})
		secure := func(name, host, namespace string) gatewayv1.Listener {
			return gatewayv1.Listener{
				Name: gatewayv1.SectionName(name), Port: 443, Protocol: gatewayv1.HTTPSProtocolType, Hostname: ptr.To(gatewayv1.Hostname(host)),
				TLS: &gatewayv1.ListenerTLSConfig{CertificateRefs: []gatewayv1.SecretObjectReference{{Name: "cert", Namespace: ptr.To(gatewayv1.Namespace(namespace))}}},
			}
		}
		g := eastwest("default", "secure", secure("near", "a.example.com", "default"), secure("far", "b.example.com", "certificates"))
		east.with(g)
		Eventually(east.listenerStatus(g, "near", "ResolvedRefs")).Should(Equal("False/InvalidCertificateRef 0 HTTPRoute GRPCRoute"))
		Eventually(east.listenerStatus(g, "far", "ResolvedRefs")).Should(Equal("False/RefNotPermitted 0 HTTPRoute GRPCRoute"))
		east.with(tlsSecret("default", "cert"), tlsSecret("certificates", "cert"))
		Eventually(east.listenerStatus(g, "near", "ResolvedRefs")).Should(Equal("True/ResolvedRefs 0 HTTPRoute GRPCRoute"))
		Consistently(east.listenerStatus(g, "far", "ResolvedRefs"), "300ms").Should(Equal("False/RefNotPermitted 0 HTTPRoute GRPCRoute"))
		grant := &gatewayv1.ReferenceGrant{
			ObjectMeta: metav1.ObjectMeta{Namespace: "certificates", Name: "grant"},
			Spec: gatewayv1.ReferenceGrantSpec{
				From: []gatewayv1.ReferenceGrantFrom{{Group: gatewayv1.GroupName, Kind: "Gateway", Namespace: "default"}},
				To:   []gatewayv1.ReferenceGrantTo{{Kind: "Secret"}},
			},
		}
		east.create(grant)
		Eventually(east.listenerStatus(g, "far", "ResolvedRefs")).Should(Equal("True/ResolvedRefs 0 HTTPRoute GRPCRoute"))
		Expect(east.Delete(ctx, grant)).To(Succeed())
		Eventually(east.listenerStatus(g, "far", "Programmed")).Should(Equal("False/Invalid 0 HTTPRoute GRPCRoute"))
		secret := tlsSecret("default", "cert")
		Expect(east.Get(ctx, client.ObjectKeyFromObject(secret), secret)).To(Succeed())
		edit(east, secret, func(s *corev1.Secret) { s.Data[corev1.TLSCertKey] = []byte("odd") })
		Eventually(east.listenerStatus(g, "near", "ResolvedRefs")).Should(Equal("False/InvalidCertificateRef 0 HTTPRoute GRPCRoute"))
	})
})
