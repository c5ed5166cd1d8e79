// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"time"

	"github.com/go-logr/logr"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	dto "github.com/prometheus/client_model/go"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/isthmus-mesh/isthmus/internal/ca"
)

var _ = Describe("The authority's end", func() {
	It("is told once a day, and what issues what nobody takes does not replace it", func(ctx SpecContext) {
		const namespace = "authority-ends"
		east.with(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})
		template := func() *x509.Certificate {
			return &x509.Certificate{
				Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(5 * 365 * 24 * time.Hour),
				IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
			}
		}
		root := &authority{}
		root.cert, root.key = root.sign(template())
		below := func(change func(*x509.Certificate)) map[string][]byte {
			GinkgoHelper()
			c := template()
			change(c)
			issuer, key := root.sign(c)
			der, err := x509.MarshalPKCS8PrivateKey(key)
			Expect(err).NotTo(HaveOccurred())
			return map[string][]byte{
				ca.CertKey: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issuer.Raw}), ca.KeyKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
				ca.RootKey: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.cert.Raw}),
			}
		}
		lasting := func(before, after time.Duration) map[string][]byte {
			GinkgoHelper()
			return below(func(c *x509.Certificate) { c.NotBefore, c.NotAfter = time.Now().Add(-before), time.Now().Add(after) })
		}
		given := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: givenCA}, Data: lasting(74*time.Hour, 26*time.Hour)}
		east.with(given)
		told := &toldEvents{}
		a := NewAuthority(east.Client, east.Client, namespace, "cluster.local", logr.Discard(), told, func() {})
		reconcile := func() time.Duration {
			GinkgoHelper()
			result, err := a.Reconcile(ctx, ctrl.Request{})
			Expect(err).NotTo(HaveOccurred())
			return result.RequeueAfter
		}
		Expect(reconcile()).To(BeNumerically("~", time.Hour, time.Minute), "a quarter of its life is left in an hour")
		Expect(*told).To(BeEmpty())
		edit(east, given, func(s *corev1.Secret) { s.Data = lasting(74*time.Hour, 24*time.Hour) })
		for range 2 {
			Expect(reconcile()).To(BeNumerically("~", endsSoonAgain, time.Minute))
			Expect(*told).To(ConsistOf(HavePrefix("EndsSoon: ")))
		}
		var ends dto.Metric
		Expect(a.ends.Write(&ends)).To(Succeed())
		Expect(ends.GetGauge().GetValue()).To(BeNumerically("~", time.Now().Add(24*time.Hour).Unix(), 60))
		a.warned.at = a.warned.at.Add(-endsSoonAgain)
		reconcile()
		Expect(*told).To(HaveLen(2), "a day later")

		before := a.Signer()
		edit(east, given, func(s *corev1.Secret) {
			s.Data = below(func(c *x509.Certificate) { c.PermittedURIDomains = []string{"else.example"} })
		})
		_, err := a.Reconcile(ctx, ctrl.Request{})
		Expect(err).To(MatchError(ContainSubstring("identities of cluster.local are not accepted")))
		Expect((*told)[2:]).To(ConsistOf(HavePrefix("CannotBeUsed: ")))
		Expect(a.Signer()).To(BeIdenticalTo(before))

		edit(east, given, func(s *corev1.Secret) { s.Data = lasting(0, 100*24*time.Hour) })
		Expect(reconcile()).To(BeNumerically("~", 75*24*time.Hour, time.Hour))
		Expect(*told).To(HaveLen(3))
	})
})
