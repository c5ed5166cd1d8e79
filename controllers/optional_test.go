// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/go-logr/logr/funcr"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/test/apiserver"
)

var _ = Describe("a cluster without the Gateway API", func() {
	It("is served as far as it goes, and its kinds are read as soon as they are there", func(ctx SpecContext) {
		bare := startCluster(apiserver.GatewayAPI)
		DeferCleanup(func() { Expect(bare.Stop()).To(Succeed()) })
		bare.prepare("bare")

		var mu sync.Mutex
		var said []string
		lines := func(with string) (out []string) {
			mu.Lock()
			defer mu.Unlock()
			for _, line := range said {
				if strings.Contains(line, with) {
					out = append(out, line)
				}
			}
			return out
		}
		log := funcr.New(func(prefix, args string) {
			mu.Lock()
			defer mu.Unlock()
			said = append(said, prefix+" "+args)
		}, funcr.Options{})
		held, err := net.Listen("tcp", "127.0.0.1:0")
		Expect(err).NotTo(HaveOccurred())
		health := held.Addr().String()
		Expect(held.Close()).To(Succeed())
		running := startReplica(bare.Config, "bare", nil, func(o *Options) { o.Log, o.HealthAddress = log, health })
		DeferCleanup(running.end)

		Eventually(func() (int, error) {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+health+"/readyz", http.NoBody)
			if err != nil {
				return 0, err
			}
			answer, err := http.DefaultClient.Do(request)
			if err != nil {
				return 0, err
			}
			return answer.StatusCode, answer.Body.Close()
		}).WithTimeout(2 * soon).Should(Equal(http.StatusOK))
		for _, kind := range []string{"Gateway", "GatewayClass", "HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute"} {
			Expect(lines(`does not serve a kind`)).To(ContainElement(ContainSubstring(`"kind"="` + kind + `"`)))
		}
		scope := &v1alpha1.ServiceScope{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
		Eventually(func() string {
			if err := bare.Get(context.Background(), client.ObjectKeyFromObject(scope), scope); err != nil {
				return err.Error()
			}
			return verdict(scope.Status.Conditions, scope.Generation, "Accepted")
		}).WithTimeout(2*soon).Should(Equal("True/Accepted"), "the rest works")
		Expect(lines("should be installed before calling Start")).To(BeEmpty(), "nothing waits for what is not there, and ends the process for it")

		By("installing it")
		Expect(bare.Install(apiserver.GatewayAPI)).To(Succeed())
		port := gatewayv1.PortNumber(80)
		gateway := &gatewayv1.Gateway{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "gw"}, Spec: gatewayv1.GatewaySpec{
			GatewayClassName: translate.ClassEastWest, Listeners: []gatewayv1.Listener{{Name: "db", Port: 5432, Protocol: gatewayv1.TCPProtocolType}},
		}}
		route := &gatewayv1.TCPRoute{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "db"}, Spec: gatewayv1.TCPRouteSpec{
			CommonRouteSpec: gatewayv1.CommonRouteSpec{ParentRefs: []gatewayv1.ParentReference{{Name: "gw"}}},
			Rules:           []gatewayv1.TCPRouteRule{{BackendRefs: []gatewayv1.BackendRef{{BackendObjectReference: gatewayv1.BackendObjectReference{Name: "db", Port: &port}}}}},
		}}
		bare.create(gateway, route, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "db"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}})
		Eventually(bare.gatewayVerdict(gateway, "Accepted")).WithTimeout(3 * soon).Should(Equal("True/Accepted"))
		Eventually(func() string {
			if err := bare.Get(context.Background(), client.ObjectKeyFromObject(route), route); err != nil || len(route.Status.Parents) == 0 {
				return "no status"
			}
			return verdict(route.Status.Parents[0].Conditions, route.Generation, "Accepted")
		}).WithTimeout(2 * soon).Should(Equal("True/Accepted"))
	})
})
