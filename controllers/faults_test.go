// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// abort ends a request as a cut connection does.
func abort(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }

// answer gives a status of the API in the server's place.
func answer(w http.ResponseWriter, code int, reason metav1.StatusReason) bool {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":%q,"code":%d,"message":"not today"}`, reason, code)
	return true
}

func isWatch(r *http.Request) bool {
	return r.URL.Query().Get("watch") == "true" || r.URL.Query().Get("watch") == "1"
}

var _ = Describe("A remote cluster in trouble", Ordered, func() {
	var (
		proxy  *subscriber
		far    *farProxy
		begun  int // removals when all was well
		host   = mesh.ServiceKey{Namespace: "default", Hostname: "troubled.default.svc.cluster.local"}
		extra  = mesh.ServiceKey{Namespace: "default", Hostname: "extra.default.svc.cluster.local"}
		global = map[string]string{"istio.io/global": "true"}
		well   = func() {
			GinkgoHelper()
			far.misbehave(nil)
			// A reflector that failed often waits up to 30 s before it tries again.
			Eventually(remoteVerdict("troubled", "Ready"), 3*soon).Should(HavePrefix("True/Ready"))
			Eventually(remoteVerdict("troubled", "Connected")).Should(HavePrefix("True/Connected"))
		}
		untouched = func() {
			GinkgoHelper()
			Expect(proxy.endpoints(host)).To(Equal(1), "the last state stays in use")
			Expect(proxy.removals()).To(Equal(begun), "nothing leaves meanwhile")
		}
	)

	BeforeAll(func() {
		proxy = subscribe()
		gateway := eastwest(system, "troubled")
		gateway.Labels = map[string]string{networkLabel: "west"}
		west.create(gateway)
		west.removeLater(gateway)
		class := &gatewayv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: "eastwest"}, Spec: gatewayv1.GatewayClassSpec{ControllerName: "isthmus.dev/gateway-controller"}}
		scope := defaultScope()
		for _, o := range []client.Object{class, scope} {
			if west.Create(context.Background(), o) == nil { // else another part of the suite made it
				west.removeLater(o)
			}
		}
		editStatus(west, gateway, func(g *gatewayv1.Gateway) {
			kind := gatewayv1.IPAddressType
			g.Status.Addresses = []gatewayv1.GatewayStatusAddress{{Type: &kind, Value: "10.89.102.9"}}
			for i := range g.Status.Conditions {
				g.Status.Conditions[i].LastTransitionTime = metav1.Now()
			}
		})
		west.runApp("default", "troubled", "10.244.1.8", global)
		far = newFarProxy(west)
		secret := remoteSecret("troubled", map[string][]byte{"troubled": far.kubeconfig()})
		east.with(secret)
		Eventually(remoteVerdict("troubled", "Ready")).Should(HavePrefix("True/Ready"))
		Eventually(func() int { return proxy.endpoints(host) }).Should(Equal(1))
		begun = proxy.removals()
	})

	It("with a history that is gone (410): reads everything anew", func() {
		var gone sync.Map // path → true
		service, pod := west.runApp("default", "extra", "10.244.1.9", global)
		Eventually(func() int { return proxy.endpoints(extra) }).Should(Equal(1))
		begun = proxy.removals()
		// While nothing can be read something is deleted, and what would have told so is compacted away.
		far.misbehave(abort)
		Expect(west.Delete(context.Background(), service)).To(Succeed())
		Expect(west.Delete(context.Background(), pod, client.GracePeriodSeconds(0))).To(Succeed())
		far.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
			version := r.URL.Query().Get("resourceVersion")
			if !isWatch(r) || version == "" || version == "0" {
				return false
			}
			if _, again := gone.LoadOrStore(r.URL.Path, true); again {
				return false
			}
			return answer(w, http.StatusGone, metav1.StatusReasonExpired)
		})
		Eventually(func() bool { return proxy.service(extra) == nil }, 3*soon).Should(BeTrue())
		_, told := gone.Load("/api/v1/services")
		Expect(told).To(BeTrue())
		Expect(proxy.endpoints(host)).To(Equal(1))
		well()
	})

	It("unreachable: says so, and what was known stays in use", func() {
		begun = proxy.removals()
		far.misbehave(abort)
		Eventually(remoteVerdict("troubled", "Connected")).Should(HavePrefix("False/Unreachable"))
		Expect(remoteVerdict("troubled", "Ready")()).To(And(HavePrefix("False/Unreachable"), ContainSubstring("stays in use")))
		untouched()
		By("our own cluster's changes arrive meanwhile")
		ours := func() int {
			return proxy.endpoints(mesh.ServiceKey{Namespace: "default", Hostname: "meanwhile.default.svc.cluster.local"})
		}
		// That it leaves is counted, too: it is over before the next part begins to count.
		DeferCleanup(func() { Eventually(proxy.removals).Should(Equal(begun + 1)) })
		east.runApp("default", "meanwhile", "10.244.0.9", nil)
		Eventually(ours).Should(Equal(1))
		well()
	})

	It("flapping: comes back each time", func() {
		begun = proxy.removals()
		// Every other request of each path: counted over all paths, those that find out whether the cluster
		// answers may happen to be the ones that are answered, each time.
		var n atomic.Int64
		var asked sync.Map // path → *atomic.Int64
		far.misbehave(func(_ http.ResponseWriter, r *http.Request) bool {
			n.Add(1)
			of, _ := asked.LoadOrStore(r.URL.Path, new(atomic.Int64))
			if of.(*atomic.Int64).Add(1)%2 == 0 {
				panic(http.ErrAbortHandler)
			}
			return false
		})
		Eventually(remoteVerdict("troubled", "Connected")).Should(HavePrefix("False/Unreachable"))
		Eventually(n.Load).Should(BeNumerically(">", 12))
		untouched()
		well()
	})

	It("slow: says so", func() {
		far.misbehave(func(_ http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/version" {
				select {
				case <-time.After(slowAnswer + time.Second):
				case <-r.Context().Done():
				}
			}
			return false
		})
		Eventually(remoteVerdict("troubled", "Connected")).Should(HavePrefix("True/Slow"))
		untouched()
		well()
	})

	It("with a clock of its own: says so", func() {
		far.misbehave(func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Date", time.Now().Add(10*time.Minute).UTC().Format(http.TimeFormat))
			return false
		})
		Eventually(remoteVerdict("troubled", "Connected")).Should(And(HavePrefix("True/ClockSkew"), ContainSubstring("10m0s ahead")))
		untouched()
		well()
	})

	It("forbidding what it allowed: says so", func() {
		far.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
			return strings.HasSuffix(r.URL.Path, "/pods") && answer(w, http.StatusForbidden, metav1.StatusReasonForbidden)
		})
		Eventually(remoteVerdict("troubled", "Ready")).Should(HavePrefix("False/Forbidden"))
		untouched()
		well()
	})

	It("cutting every watch: says so, though it answers", func() {
		far.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
			return isWatch(r) && strings.HasSuffix(r.URL.Path, "/services") && answer(w, http.StatusInternalServerError, metav1.StatusReasonInternalError) ||
				!isWatch(r) && strings.HasSuffix(r.URL.Path, "/services") && answer(w, http.StatusInternalServerError, metav1.StatusReasonInternalError)
		})
		// Three failures in a row are wanted, and the reflector, which failed often by now, waits up to a minute before each.
		Eventually(remoteVerdict("troubled", "Ready"), 7*soon).Should(HavePrefix("False/WatchFailing"))
		Expect(remoteVerdict("troubled", "Connected")()).To(HavePrefix("True/"))
		untouched()
		well()
	})

	It("with another certificate: is not believed until the kubeconfig says so", func(ctx SpecContext) {
		begun = proxy.removals()
		far.prove(time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour))
		far.misbehave(nil)
		Eventually(remoteVerdict("troubled", "Connected")).Should(HavePrefix("False/Untrusted"))
		far.prove(time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
		far.misbehave(nil)
		Eventually(remoteVerdict("troubled", "Connected")).Should(And(HavePrefix("False/Untrusted"), ContainSubstring("does not vouch")))
		untouched()
		secret := remoteSecret("troubled", nil)
		Expect(east.Get(ctx, client.ObjectKeyFromObject(secret), secret)).To(Succeed())
		secret.Data = map[string][]byte{"troubled": far.kubeconfig()}
		Expect(east.Update(ctx, secret)).To(Succeed())
		Eventually(remoteVerdict("troubled", "Ready")).Should(HavePrefix("True/Ready"))
		untouched()
	})

	It("whose address leads elsewhere: nothing of it stays in use, until it leads back", func() {
		far.lead(east)
		Eventually(remoteVerdict("troubled", "Ready")).Should(HavePrefix("False/Self"))
		Eventually(func() int { return proxy.endpoints(host) }).Should(Equal(0))
		far.lead(nil)
		Eventually(remoteVerdict("troubled", "Ready"), 2*soon).Should(HavePrefix("True/Ready"))
		Eventually(func() int { return proxy.endpoints(host) }).Should(Equal(1))
	})

	It("whose address leads elsewhere while it is read for the first time: is read when it leads back", func(ctx SpecContext) {
		var asked atomic.Int64
		far.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
			first := !isWatch(r) || r.URL.Query().Get("sendInitialEvents") == "true"
			if !first || !strings.HasSuffix(r.URL.Path, "/pods") {
				return false
			}
			asked.Add(1)
			return answer(w, http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable)
		})
		secret := remoteSecret("troubled", nil)
		edit(east, secret, func(s *corev1.Secret) { s.Data = map[string][]byte{"troubled": far.kubeconfig()} })
		Eventually(asked.Load).Should(BeNumerically(">", 0), "with the new kubeconfig everything is read")
		far.lead(east)
		Eventually(remoteVerdict("troubled", "Ready")).Should(HavePrefix("False/Self"))
		Eventually(func() int { return proxy.endpoints(host) }).Should(Equal(0))
		far.lead(nil)
		well()
		Eventually(func() int { return proxy.endpoints(host) }).Should(Equal(1))
	})

	It("gone for longer than its limit: comes back when it was read anew, and not when it answers", func(ctx SpecContext) {
		service, pod := west.runApp("default", "extra", "10.244.1.9", global)
		Eventually(func() int { return proxy.endpoints(extra) }).Should(Equal(1))
		address := proxy.service(host).Addresses
		remote := &v1alpha1.RemoteCluster{ObjectMeta: metav1.ObjectMeta{Name: "troubled"}}
		edit(east, remote, func(r *v1alpha1.RemoteCluster) { r.Spec.StalenessLimit = &metav1.Duration{Duration: 10 * time.Second} })
		far.misbehave(abort)
		Eventually(remoteVerdict("troubled", "Ready"), 3*soon).Should(HavePrefix("False/Stale"))
		Eventually(func() int { return proxy.endpoints(host) }).Should(Equal(0))
		Expect(west.Delete(ctx, service)).To(Succeed())
		Expect(west.Delete(ctx, pod, client.GracePeriodSeconds(0))).To(Succeed())

		By("answering questions, and nothing else")
		far.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
			question := r.URL.Path == "/version" || strings.HasSuffix(r.URL.Path, "/namespaces/kube-system")
			return !question && answer(w, http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable)
		})
		Eventually(remoteVerdict("troubled", "Connected"), 3*soon).Should(HavePrefix("True/"))
		Consistently(func() int { return proxy.endpoints(host) + proxy.endpoints(extra) }, "4s").Should(Equal(0))
		Expect(remoteVerdict("troubled", "Ready")()).To(HavePrefix("False/Stale"))

		By("telling everything")
		well()
		Eventually(func() int { return proxy.endpoints(host) }).Should(Equal(1))
		Expect(proxy.endpoints(extra)).To(Equal(0))
		Expect(proxy.service(host).Addresses).To(Equal(address))
		edit(east, remote, func(r *v1alpha1.RemoteCluster) { r.Spec.StalenessLimit = nil })
	})
})
