// SPDX-License-Identifier: Apache-2.0

//go:build conformance

package tests

import (
	"fmt"
	"regexp"
	"testing"

	"sigs.k8s.io/gateway-api/conformance/utils/echo"
	"sigs.k8s.io/gateway-api/conformance/utils/http"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
)

// CrossClusterMesh: a route at a Service leads clients of the mesh to other clusters.
var CrossClusterMesh = suite.ConformanceTest{
	ShortName:   "IsthmusCrossClusterMesh",
	Description: "An HTTPRoute at a Service sends what clients in the mesh ask it to pods of another cluster, and of both.",
	Features:    []features.FeatureName{features.SupportMesh, features.SupportHTTPRoute, SupportMultiCluster},
	Manifests:   []string{"cross-cluster-mesh.yaml"},
	Test: func(t *testing.T, s *suite.ConformanceTestSuite) {
		clustersMustBeReady(t, s)
		pod := echo.ConnectToAppInNamespace(t, s, "app=client", multiclusterNamespace)
		asked := func(path string) (answer, error) {
			_, response, err := pod.CaptureRequestResponseAndCompare(t, http.ExpectedResponse{Request: http.Request{Host: "both." + multiclusterNamespace + ":8080", Path: path}})
			if err != nil {
				return answer{}, err
			}
			echoed := echoedPod.FindStringSubmatch(response.RawContent)
			if echoed == nil {
				return answer{}, fmt.Errorf("the answer is no echo: %s", response.RawContent)
			}
			return answer{status: 200, pod: echoed[1]}, nil
		}
		for _, path := range []string{"/only-remote", "/import"} {
			t.Run("Requests to "+path+" go to the other cluster", func(t *testing.T) {
				eventually(t, s.TimeoutConfig.MaxTimeToConsistency, path+" is answered there", func() error {
					for range 10 { // without the route, half of them would not be
						if a, err := asked(path); err != nil || a.site() != remote {
							return fmt.Errorf("pod %q, %w", a.pod, err)
						}
					}
					return nil
				})
			})
		}
		t.Run("Other requests go to the pods of both", func(t *testing.T) {
			seen := map[string]int{}
			for range 40 { // none of one half of them by chance: once in 10^12 times
				a, err := asked("/")
				if err != nil {
					t.Fatal(err)
				}
				seen[a.site()]++
			}
			if seen[local] == 0 || seen[remote] == 0 {
				t.Errorf("of 40 requests: %v", seen)
			}
		})
	},
}

// echoedPod finds in an echo the pod that it is of.
var echoedPod = regexp.MustCompile(`"pod": *"([^"]+)"`)
