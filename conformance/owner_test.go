// SPDX-License-Identifier: Apache-2.0

//go:build conformance

package conformance

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The Service to which the suite has a route of another namespace, MeshConsumerRoute.
var consumed = client.ObjectKey{Namespace: "gateway-conformance-mesh", Name: "echo-v1"}

// nameWaypoint does what the owner of that Service does who lets such routes be in force: it names a waypoint, as no route of others puts one in front of a Service. It
// goes on until the test ends, as the suite may make the Service again.
func nameWaypoint(t *testing.T, c client.Client) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		for {
			var s corev1.Service
			if c.Get(ctx, consumed, &s) == nil && s.Labels[useWaypoint] == "" {
				patch := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"`+useWaypoint+`":"isthmus-waypoint"}}}`))
				if err := c.Patch(ctx, &s, patch); err == nil {
					t.Logf("Service %s names a waypoint", consumed)
				}
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(500 * time.Millisecond):
			}
		}
	}()
}

const useWaypoint = "istio.io/use-waypoint"
