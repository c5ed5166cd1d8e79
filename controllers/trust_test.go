// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/go-logr/logr"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/internal/ca"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
	"github.com/isthmus-mesh/isthmus/internal/xds"
)

// holder holds certificates of our authority and the roots that discovery tells, as a node proxy does.
type holder struct {
	*mtls.Source
	mu    sync.Mutex
	roots map[string]int // by trust domain
}

func (h *holder) knows(domain string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.roots[domain]
}

// hold runs a holder until the spec ends.
func hold(name string) *holder {
	GinkgoHelper()
	Eventually(roots).ShouldNot(BeNil())
	pod := proxyPod(name, "node-1")
	o := callWith(east.token(system, "isthmus-nodeproxy", tokenAudience, pod))
	issuer, err := xds.NewCertificateClient(o, id(system, "isthmus-nodeproxy"))
	Expect(err).NotTo(HaveOccurred())
	h := &holder{Source: mtls.NewSource(issuer, mtls.SourceOptions{Log: logr.Discard()}), roots: map[string]int{}}
	o.Types = []xds.Type{xds.Bundles(), xds.Addresses()}
	o.Apply = func(d mesh.Delta) error {
		h.mu.Lock()
		for domain, b := range d.Bundles {
			if delete(h.roots, domain); b != nil {
				h.roots[domain] = len(b.Roots)
			}
		}
		h.mu.Unlock()
		return h.Follow(d.Bundles)
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
		h.Close()
		_ = issuer.Close() // nothing of it is needed any more
	})
	return h
}

// foreign issues for whom it is asked, whatever the domain.
type foreign struct{ *ca.Signer }

func (f foreign) Issue(_ context.Context, who mesh.Identity, csr []byte) ([]string, error) {
	return f.Sign(who, csr, time.Hour)
}

// strangers are holders of certificates of another authority.
func strangers() (*mtls.Source, []byte) {
	GinkgoHelper()
	files, err := ca.SelfSigned("else.example")
	Expect(err).NotTo(HaveOccurred())
	signer, err := ca.NewSigner(files)
	Expect(err).NotTo(HaveOccurred())
	s := mtls.NewSource(foreign{signer}, mtls.SourceOptions{Log: logr.Discard()})
	DeferCleanup(s.Close)
	return s, files[ca.RootKey]
}

// admits says what a server that proves its own identity thinks of a client; the client believes anybody.
func admits(server *tls.Config, from *mtls.Source, as mesh.Identity) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	answered := make(chan error, 1)
	go func() {
		raw, err := l.Accept()
		if err == nil {
			defer raw.Close()
			err = tls.Server(raw, server).Handshake()
		}
		answered <- err
	}()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return err
	}
	defer raw.Close()
	config := from.Client(as, nil)
	config.VerifyConnection = nil
	_ = tls.Client(raw, config).Handshake() // the server's word counts
	return <-answered
}

// refusedAs gives the reason for which a peer is refused, "" if it is welcome.
func refusedAs(err error) string {
	if why := (*mtls.VerifyError)(nil); errors.As(err, &why) {
		return string(why.Reason)
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

var _ = Describe("Roots", func() {
	It("of another trust domain vouch for its identities and for no others, for as long as they are there", func(ctx SpecContext) {
		h := hold("trust-holder")
		server := h.Server(id(system, "isthmus-nodeproxy"))
		friends, root := strangers()
		friend := mesh.Identity{TrustDomain: "else.example", Namespace: "shop", ServiceAccount: "till"}
		asFriend := func() string { return refusedAs(admits(server, friends, friend)) }
		asOurs := func() string { return refusedAs(admits(server, friends, id("shop", "till"))) }
		Eventually(func() int { return h.knows("cluster.local") }).Should(BeNumerically(">=", 1), "our own roots are told, too")
		Expect(asFriend()).To(Equal("trust_domain"))

		config := &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: "roots-else", Labels: map[string]string{trustDomainLabel: "else.example"}},
			Data:       map[string]string{"ca.crt": string(root)},
		}
		east.with(config)
		Eventually(asFriend).Should(BeEmpty())
		Expect(asOurs()).To(Equal("chain"), "a name of ours, signed by the friend")
		others, otherRoot := strangers()
		Expect(refusedAs(admits(server, others, friend))).To(Equal("chain"), "a name of the friend's, signed by another")

		By("keeping them when they become unusable, and saying so")
		edit(east, config, func(c *corev1.ConfigMap) { c.Data = map[string]string{"ca.crt": "nonsense"} })
		Eventually(func() []string {
			var list eventsv1.EventList
			Expect(east.List(ctx, &list, client.InNamespace(system))).To(Succeed())
			var notes []string
			for _, e := range list.Items {
				if e.Regarding.Kind == "ConfigMap" && e.Regarding.Name == config.Name {
					notes = append(notes, e.Reason+": "+e.Note)
				}
			}
			return notes
		}).Should(ContainElement(And(ContainSubstring("CannotBeUsed"), ContainSubstring("ca.crt"))))
		Expect(asFriend()).To(BeEmpty())

		By("taking another root beside and then instead")
		edit(east, config, func(c *corev1.ConfigMap) {
			c.Data = map[string]string{"root-cert.pem": string(otherRoot), "ca.crt": string(root)}
		})
		Eventually(func() string { return refusedAs(admits(server, others, friend)) }).Should(BeEmpty())
		Expect(asFriend()).To(BeEmpty())
		edit(east, config, func(c *corev1.ConfigMap) { c.Data = map[string]string{"root-cert.pem": string(otherRoot)} })
		Eventually(asFriend).Should(Equal("chain"))

		By("withdrawing them")
		Expect(east.Delete(ctx, config)).To(Succeed())
		Eventually(func() string { return refusedAs(admits(server, others, friend)) }).Should(Equal("trust_domain"))
	})

	It("of our own domain are the authority's alone", func(ctx SpecContext) {
		h := hold("trust-own")
		_, root := strangers()
		Eventually(func() int { return h.knows("cluster.local") }).Should(BeNumerically(">=", 1))
		before := h.knows("cluster.local")
		east.with(&corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: "roots-own", Labels: map[string]string{trustDomainLabel: "cluster.local"}},
			Data:       map[string]string{"ca.crt": string(root)},
		}, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: "roots-third", Labels: map[string]string{trustDomainLabel: "third.example"}},
			Data:       map[string]string{"ca.crt": string(root)},
		})
		Eventually(func() int { return h.knows("third.example") }).Should(Equal(1), "by then the other one was looked at")
		Expect(h.knows("cluster.local")).To(Equal(before))
	})
})
