// SPDX-License-Identifier: Apache-2.0

//go:build conformance

package tests

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/gateway-api/conformance/utils/kubernetes"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
)

// CrossClusterFailover: when the pods of one cluster go, requests go to those of the other one.
var CrossClusterFailover = suite.ConformanceTest{
	ShortName:   "IsthmusCrossClusterFailover",
	Description: "When the pods of a service go in one cluster, all requests go to those of another one, and not one fails; they come back with the pods.",
	Features:    []features.FeatureName{features.SupportGateway, features.SupportHTTPRoute, features.SupportHTTPRouteRetryConnectionError, SupportMultiCluster},
	Manifests:   []string{"cross-cluster-failover.yaml"},
	Test: func(t *testing.T, s *suite.ConformanceTestSuite) {
		const host = "failover.cross-cluster.example.com"
		clustersMustBeReady(t, s)
		route := types.NamespacedName{Namespace: multiclusterNamespace, Name: "cross-cluster-failover"}
		address := kubernetes.GatewayAndHTTPRoutesMustBeAccepted(t, s.Client, s.TimeoutConfig, s.ControllerName, kubernetes.NewGatewayRef(webGateway), route)
		seen := func(site string) {
			t.Helper()
			eventually(t, s.TimeoutConfig.MaxTimeToConsistency, "a pod of "+site+" answers", func() error {
				for range 20 {
					if a, err := ask(address, host, "/"); err != nil || a.site() == site {
						return err
					}
				}
				return fmt.Errorf("none of 20 answers is of %s", site)
			})
		}
		seen(local)
		seen(remote)

		requests := begin(t.Context(), address, host)
		t.Cleanup(func() { scale(context.WithoutCancel(t.Context()), t, s.Client, 1) })
		t.Run("Without pods here all requests go there", func(t *testing.T) {
			scale(t.Context(), t, s.Client, 0)
			eventually(t, s.TimeoutConfig.MaxTimeToConsistency, "the pods here are gone", func() error {
				if left := podsOf(t, s.Client, local); len(left) > 0 {
					return fmt.Errorf("%d pods are left", len(left))
				}
				return nil
			})
			sitesMustBe(t, s, address, host, "/", remote)
		})
		t.Run("With pods here again requests come back", func(t *testing.T) {
			scale(t.Context(), t, s.Client, 1)
			seen(local)
		})
		sent, failures := requests.end()
		for _, err := range failures {
			t.Errorf("a request failed: %v", err)
		}
		if t.Logf("%d requests", sent); sent == 0 {
			t.Error("no request was sent meanwhile")
		}
	},
}

// traffic is requests that are sent all the time.
type traffic struct {
	stop    context.CancelFunc
	running sync.WaitGroup

	mu       sync.Mutex
	sent     int
	failures []error
}

// begin sends requests, four at a time, until end.
func begin(ctx context.Context, address, host string) *traffic {
	r := &traffic{}
	ctx, r.stop = context.WithCancel(ctx)
	for range 4 {
		r.running.Go(func() {
			for ctx.Err() == nil {
				a, err := ask(address, host, "/")
				if err == nil && a.status != http.StatusOK {
					err = fmt.Errorf("status %d, %s", a.status, a.reason)
				}
				r.mu.Lock()
				if r.sent++; err != nil && len(r.failures) < 20 {
					r.failures = append(r.failures, err)
				}
				r.mu.Unlock()
			}
		})
	}
	return r
}

// end waits for those that are under way, and says how many there were, and which have failed: at most 20.
func (r *traffic) end() (sent int, failures []error) {
	r.stop()
	r.running.Wait()
	return r.sent, r.failures
}

// scale gives the Deployment of the suite's cluster a number of pods.
func scale(ctx context.Context, t *testing.T, c client.Client, replicas int) {
	t.Helper()
	o := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: multiclusterNamespace, Name: local}}
	if err := c.Patch(ctx, o, client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas))); err != nil {
		t.Fatal(err)
	}
}
