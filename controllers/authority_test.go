// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"slices"
	"time"

	"github.com/go-logr/logr"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/internal/ca"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
)

// toldOf gives the reasons of the Events on a Secret.
func toldOf(name string) []string {
	var list eventsv1.EventList
	if err := east.List(context.Background(), &list, client.InNamespace(system)); err != nil {
		return nil
	}
	var reasons []string
	for _, e := range list.Items {
		if e.Regarding.Kind == "Secret" && e.Regarding.Name == name {
			reasons = append(reasons, e.Reason)
		}
	}
	return reasons
}

var _ = Describe("The authority", func() {
	It("takes over from another in steps, and stays when its Secret is broken or gone", func(ctx SpecContext) {
		Eventually(roots).ShouldNot(BeNil())
		own := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: ownCA}}
		Expect(east.Get(ctx, client.ObjectKeyFromObject(own), own)).To(Succeed())
		young, err := ca.SelfSigned("cluster.local")
		Expect(err).NotTo(HaveOccurred())
		both := slices.Concat(own.Data[ca.RootKey], young[ca.RootKey])
		bundle := func() string {
			c := &corev1.ConfigMap{}
			Expect(east.Get(ctx, client.ObjectKey{Namespace: system, Name: rootCertName}, c)).To(Succeed())
			return c.Data[rootCertKey]
		}
		proxy := ztunnelOn("ztunnel-rotates", "node-1") // it holds the old root alone
		self := id(system, "isthmus-nodeproxy").String()
		issuer := func() []byte {
			cert, _, err := proxy.Certify(ctx, self, true)
			if err != nil {
				return nil
			}
			return cert.Leaf.AuthorityKeyId
		}
		before := issuer()
		Expect(before).NotTo(BeEmpty())

		// One who follows discovery, too, and a peer that holds a certificate of the new issuer before anybody else does.
		follower := hold("nodeproxy-rotates")
		held, err := follower.Certificate(ctx, id(system, "isthmus-nodeproxy"))
		Expect(err).NotTo(HaveOccurred())
		youngSigner, err := ca.NewSigner(young)
		Expect(err).NotTo(HaveOccurred())
		early := mtls.NewSource(foreign{youngSigner}, mtls.SourceOptions{Log: logr.Discard()})
		DeferCleanup(early.Close)
		earlyPeer := func() string {
			return refusedAs(admits(follower.Server(id(system, "isthmus-nodeproxy")), early, id("shop", "till")))
		}
		Eventually(func() int { return follower.knows("cluster.local") }).Should(Equal(1))
		Expect(earlyPeer()).To(Equal("chain"))

		By("bundles first")
		began := time.Now()
		given := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: givenCA},
			Data:       map[string][]byte{ca.CertKey: own.Data[ca.CertKey], ca.KeyKey: own.Data[ca.KeyKey], ca.RootKey: both},
		}
		east.with(given)
		Eventually(earlyPeer).Should(BeEmpty(), "new roots count for who follows discovery, without another certificate")
		AddReportEntry("the new root counted after", time.Since(began).String())
		still, err := follower.Certificate(ctx, id(system, "isthmus-nodeproxy"))
		Expect(err).NotTo(HaveOccurred())
		Expect(still.TLS.Leaf.SerialNumber).To(Equal(held.TLS.Leaf.SerialNumber))
		Eventually(bundle).Should(BeEquivalentTo(both))
		Expect(issuer()).To(Equal(before), "with the old root, and from the old issuer")
		proxy.Roots = roots()

		By("issuers second, as cert-manager would write them")
		edit(east, given, func(s *corev1.Secret) {
			s.Data = map[string][]byte{
				ca.TLSCertKey: young[ca.CertKey], ca.TLSKeyKey: young[ca.KeyKey], ca.TLSRootKey: young[ca.RootKey], ca.RootKey: own.Data[ca.RootKey],
			}
		})
		Eventually(issuer).ShouldNot(Or(BeEmpty(), Equal(before)))
		after := issuer()
		Expect(toldOf(givenCA)).To(BeEmpty(), "nothing was lost")

		By("a Secret that cannot be used")
		edit(east, given, func(s *corev1.Secret) { s.Data[ca.TLSKeyKey] = own.Data[ca.KeyKey] })
		Eventually(func() []string { return toldOf(givenCA) }).Should(ContainElement("CannotBeUsed"))
		Expect(issuer()).To(Equal(after))

		By("a Secret that is gone")
		Expect(east.Delete(ctx, given)).To(Succeed())
		Eventually(func() []string { return toldOf(givenCA) }).Should(ContainElement("Gone"))
		Expect(issuer()).To(Equal(after))

		By("a root that changes at once")
		other, err := ca.SelfSigned("cluster.local")
		Expect(err).NotTo(HaveOccurred())
		again := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: givenCA}, Data: other}
		east.with(again)
		Eventually(func() []string { return toldOf(givenCA) }).Should(ContainElement("RootChangedAtOnce"))
		By("keeping the roots below which certificates may be in use")
		Eventually(bundle).Should(HavePrefix(string(other[ca.RootKey])))
		Expect(bundle()).To(And(ContainSubstring(string(own.Data[ca.RootKey])), ContainSubstring(string(young[ca.RootKey]))))
		Expect(toldOf(givenCA)).To(ContainElement("RootKept"))

		By("having them go all the same")
		edit(east, again, func(s *corev1.Secret) { s.Annotations = map[string]string{removeRootsAnnotation: removeRootsNow} })
		Eventually(bundle).Should(BeEquivalentTo(other[ca.RootKey]))
	})

	It("keeps a root below which certificates may be in use, also if nobody ran when it was taken away", func(ctx SpecContext) {
		const namespace = "authority-restarts"
		east.with(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})
		first, err := ca.SelfSigned("cluster.local")
		Expect(err).NotTo(HaveOccurred())
		second, err := ca.SelfSigned("cluster.local")
		Expect(err).NotTo(HaveOccurred())
		given := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: givenCA}, Data: first}
		east.with(given)
		start := func() (*Authority, *toldEvents) {
			told := &toldEvents{}
			a := NewAuthority(east.Client, east.Client, namespace, "cluster.local", logr.Discard(), told, func() {})
			again, err := a.Reconcile(ctx, ctrl.Request{})
			Expect(err).NotTo(HaveOccurred())
			if len(*told) > 0 {
				Expect(again.RequeueAfter).To(BeNumerically("~", ca.MaxLifetime+rootSlack, 2*time.Minute), "it looks again when a root may go: nobody knows what was issued before it was remembered")
			} else {
				Expect(again.RequeueAfter).To(BeNumerically("~", ca.RootLifetime-endsSoonMost, 10*time.Minute), "it tells in time that the authority ends")
			}
			return a, told
		}
		a, told := start()
		Expect(*told).To(BeEmpty())
		Expect(a.Signer().RootPEM()).To(BeEquivalentTo(first[ca.RootKey]))

		edit(east, given, func(s *corev1.Secret) { s.Data = second })
		a, told = start()
		Expect(*told).To(ConsistOf(And(HavePrefix("RootKept: "), ContainSubstring(removeRootsAnnotation))))
		Expect(a.Signer().RootPEM()).To(BeEquivalentTo(slices.Concat(second[ca.RootKey], first[ca.RootKey])))
		until := (*told)[0]
		a, told = start()
		Expect(*told).To(ConsistOf(until), "another restart does not make it longer")

		edit(east, given, func(s *corev1.Secret) { s.Annotations = map[string]string{removeRootsAnnotation: removeRootsNow} })
		_, err = a.Reconcile(ctx, ctrl.Request{})
		Expect(err).NotTo(HaveOccurred())
		Expect(a.Signer().RootPEM()).To(BeEquivalentTo(second[ca.RootKey]))
		edit(east, given, func(s *corev1.Secret) { s.Annotations = nil })
		a, told = start()
		Expect(*told).To(BeEmpty())
		Expect(a.Signer().RootPEM()).To(BeEquivalentTo(second[ca.RootKey]))
	})

	It("makes no other root while certificates may be in use below one that is gone", func(ctx SpecContext) {
		const namespace = "authority-gone"
		east.with(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})
		start := func() (*Authority, *toldEvents, error) {
			told := &toldEvents{}
			a := NewAuthority(east.Client, east.Client, namespace, "cluster.local", logr.Discard(), told, func() {})
			_, err := a.Reconcile(ctx, ctrl.Request{})
			return a, told, err
		}
		secret := func(name string) *corev1.Secret {
			return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
		}
		first, _, err := start()
		Expect(err).NotTo(HaveOccurred())
		root := secret(ownCA)
		Expect(east.Get(ctx, client.ObjectKeyFromObject(root), root)).To(Succeed())
		Expect(east.Delete(ctx, secret(ownCA))).To(Succeed())
		a, told, err := start()
		Expect(err).To(MatchError(ContainSubstring(usedRootsName)))
		Expect(*told).To(ConsistOf(HavePrefix("Gone: ")))
		Expect(a.Signer()).To(BeNil())
		Expect(apierrors.IsNotFound(east.Get(ctx, client.ObjectKeyFromObject(root), secret(ownCA)))).To(BeTrue(), "no root was made")

		back := secret(ownCA)
		back.Data = root.Data
		east.with(back)
		_, err = a.Reconcile(ctx, ctrl.Request{})
		Expect(err).NotTo(HaveOccurred())
		Expect(a.Signer().RootPEM()).To(Equal(first.Signer().RootPEM()))

		By("beginning anew, as somebody says")
		Expect(east.Delete(ctx, secret(ownCA))).To(Succeed())
		Expect(east.Delete(ctx, secret(usedRootsName))).To(Succeed())
		a, _, err = start()
		Expect(err).NotTo(HaveOccurred())
		Expect(a.Signer().RootPEM()).NotTo(Equal(first.Signer().RootPEM()))
	})
})
