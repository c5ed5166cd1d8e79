// SPDX-License-Identifier: Apache-2.0

//go:build conformance

package tests

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/gateway-api/conformance/utils/config"
	"sigs.k8s.io/gateway-api/conformance/utils/kubernetes"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/conformance/utils/weight"
)

// Remote is the other cluster, which the one of the suite reads. Tests that need SupportMultiCluster fail without it.
var Remote client.Client

const (
	multiclusterNamespace = "isthmus-multicluster"
	// local and remote are the Deployments of the two clusters, whose pods say by their names where a request has come to.
	local, remote = "local", "remote"
)

// webGateway is what the routes of these tests attach to.
var webGateway = types.NamespacedName{Namespace: multiclusterNamespace, Name: "web"}

// SetUpClusters makes what these tests have in common, in both clusters, and does not wait for it: it comes up while other tests run. With cleanup it goes at the end of t.
func SetUpClusters(t *testing.T, here client.Client, applier kubernetes.Applier, timeouts config.TimeoutConfig, cleanup bool) {
	applier.MustApplyWithCleanup(t, here, timeouts, "multicluster-local.yaml", cleanup)
	applier.MustApplyWithCleanup(t, Remote, timeouts, "multicluster-remote.yaml", cleanup)
}

// clustersMustBeReady waits for what SetUpClusters made.
func clustersMustBeReady(t *testing.T, s *suite.ConformanceTestSuite) {
	t.Helper()
	if Remote == nil {
		t.Fatal("this test needs another cluster, which the suite's one reads: -remote-kubeconfig names it")
	}
	for _, c := range []client.Client{s.Client, Remote} {
		kubernetes.NamespacesMustBeReady(t, c, s.TimeoutConfig, []string{multiclusterNamespace})
	}
}

// answer is what has become of a request.
type answer struct {
	status int
	reason string // of a Gateway that answered itself
	pod    string
}

// site is the Deployment of the pod that answered, which says in which cluster that was; empty: none did.
func (a answer) site() string {
	for _, site := range []string{local, remote} {
		if strings.HasPrefix(a.pod, site+"-") {
			return site
		}
	}
	return ""
}

// ask sends a request to a Gateway; connections are kept.
func ask(address, host, path string) (answer, error) {
	request, err := http.NewRequest(http.MethodGet, "http://"+address+path, http.NoBody)
	if err != nil {
		return answer{}, err
	}
	request.Host = host
	client := http.Client{Timeout: callTime}
	response, err := client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return answer{}, err
	}
	out := answer{status: response.StatusCode, reason: response.Header.Get(reasonHeader)}
	if out.status != http.StatusOK {
		return out, nil
	}
	var echoed struct{ Pod string }
	if err := json.Unmarshal(body, &echoed); err != nil {
		return out, fmt.Errorf("the answer %.100q is no echo: %w", body, err)
	}
	out.pod = echoed.Pod
	return out, nil
}

// sharesMustBe has requests be spread over the clusters in these shares.
func sharesMustBe(t *testing.T, address, host, path string, want map[string]float64) {
	t.Helper()
	sender := weight.NewFunctionBasedSender(func() (string, error) {
		a, err := ask(address, host, path)
		if err == nil && a.status != http.StatusOK {
			err = fmt.Errorf("%s: status %d, %s", path, a.status, a.reason)
		}
		return a.pod, err
	})
	var err error
	for range weight.MaxTestRetries { // as the suite does: a share may be off by chance
		if err = weight.TestWeightedDistribution(sender, want); err == nil {
			return
		}
	}
	t.Error(err)
}

// sitesMustBe has all of some requests in a row be answered by pods of one cluster, before long.
func sitesMustBe(t *testing.T, s *suite.ConformanceTestSuite, address, host, path, want string) {
	t.Helper()
	eventually(t, s.TimeoutConfig.MaxTimeToConsistency, fmt.Sprintf("%s is answered by pods of %s", path, want), func() error {
		for range 20 { // none of one half of them by chance: once in 10^6 times
			a, err := ask(address, host, path)
			if err != nil {
				return err
			}
			if a.site() != want {
				return fmt.Errorf("status %d, %s, pod %q", a.status, a.reason, a.pod)
			}
		}
		return nil
	})
}

// podsOf are the pods of a Deployment of these tests.
func podsOf(t *testing.T, c client.Client, deployment string) []corev1.Pod {
	t.Helper()
	var pods corev1.PodList
	if err := c.List(t.Context(), &pods, client.InNamespace(multiclusterNamespace), client.MatchingLabels{"deployment": deployment}); err != nil {
		t.Fatal(err)
	}
	return pods.Items
}
