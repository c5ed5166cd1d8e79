// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// TestLimitsOutlastWhatTheyBound: however a cluster is unlinked, its limits count for as long as anything of it is in use, which leaves in parts.
func TestLimitsOutlastWhatTheyBound(t *testing.T) {
	bounded, elsewhere := written("far", "s", "west", ""), written("far", "s", "north", "")
	bounded.Spec.Import = &v1alpha1.ImportLimits{Namespaces: []string{"shop"}}
	plan := func(secret bool, remotes ...v1alpha1.RemoteCluster) remotePlan {
		if !secret {
			return planRemotes(nil, remotes, "east")
		}
		return planRemotes([]corev1.Secret{planned("s", 1, false, "west", "north")}, remotes, "east")
	}
	for _, tc := range []struct {
		name  string
		steps []remotePlan
		left  int // limits in the end
	}{
		{"its Secret goes", []remotePlan{plan(false, bounded)}, 0},
		{"its RemoteCluster goes", []remotePlan{plan(true)}, 0},
		{"its RemoteCluster names another cluster", []remotePlan{plan(true, elsewhere)}, 1},
		{"it is linked again by then", []remotePlan{plan(true), plan(true, bounded)}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, state := world.NewStore(), world.NewState()
				r := &RemoteReconciler{local: "east", store: store}
				take := func() {
					t.Helper()
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					d, err := store.TakeGathered(ctx, "east", world.Beat{Every: time.Second})
					if errors.Is(err, context.DeadlineExceeded) {
						return // nothing more is said
					}
					if err != nil {
						t.Fatal(err)
					}
					state.Apply(d)
					bounds := 0
					for _, l := range state.RemoteClusters {
						if l.ID == "west" && len(l.Namespaces) == 1 {
							bounds++
						}
					}
					if len(state.Services) > 0 && bounds == 0 {
						t.Fatalf("%d services are in use without the limits of their cluster", len(state.Services))
					}
				}
				r.limit(plan(true, bounded))
				const services = 1000
				for i := range services {
					store.Put(&world.Service{Key: world.Key{Cluster: "west", Namespace: "elsewhere", Name: fmt.Sprint(i)}})
				}
				for len(state.Services) < services {
					take()
				}
				for i, step := range tc.steps {
					r.limit(step)
					if i == 0 {
						store.DropCluster("west") // as Remotes does
					}
					r.forget(step)
					take()
				}
				last := tc.steps[len(tc.steps)-1]
				for r.forget(last) || len(state.Services) > 0 {
					take()
				}
				take()
				if len(state.RemoteClusters) != tc.left {
					t.Errorf("limits in the end: %v", state.RemoteClusters)
				}
			})
		})
	}
}
