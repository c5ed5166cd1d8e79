// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// TestLimitsOutlastWhatTheyBound: however a cluster is unlinked, its limits count for as long as anything of it is in use, which leaves in parts; also if it is linked again by then, with others.
func TestLimitsOutlastWhatTheyBound(t *testing.T) {
	bounded, elsewhere, wider := written("far", "s", "west", ""), written("far", "s", "north", ""), written("far", "s", "west", "")
	bounded.Spec.Import = &v1alpha1.ImportLimits{Namespaces: []string{"shop"}}
	wider.Spec.Import = &v1alpha1.ImportLimits{Namespaces: []string{"shop", "elsewhere"}}
	plan := func(secret bool, remotes ...v1alpha1.RemoteCluster) remotePlan {
		if !secret {
			return planRemotes(nil, remotes, "east")
		}
		return planRemotes([]corev1.Secret{planned("s", 1, false, "west", "north")}, remotes, "east")
	}
	for _, tc := range []struct {
		name   string
		steps  []remotePlan
		left   int // limits in the end
		linked bool
	}{
		{"its Secret goes", []remotePlan{plan(false, bounded)}, 0, false},
		{"its RemoteCluster goes", []remotePlan{plan(true)}, 0, false},
		{"its RemoteCluster names another cluster", []remotePlan{plan(true, elsewhere)}, 1, false},
		{"it is linked again by then", []remotePlan{plan(true), plan(true, bounded)}, 1, true},
		{"it is linked again by then, with other bounds", []remotePlan{plan(true), plan(true, wider)}, 1, true},
		{"it is linked again with other bounds, and unlinked", []remotePlan{plan(true), plan(true, wider), plan(true)}, 0, false},
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
					var counts *world.RemoteCluster // the first by name, as package translate has it
					for _, l := range state.RemoteClusters {
						if l.ID == "west" && (counts == nil || l.Name < counts.Name) {
							counts = l
						}
					}
					if len(state.Services) > 0 && (counts == nil || !slices.Equal(counts.Namespaces, bounded.Spec.Import.Namespaces)) {
						t.Fatalf("%d services are in use, and not the limits of their cluster but %v count", len(state.Services), counts)
					}
				}
				linked := true
				reconcile := func(p remotePlan) { // as Reconcile does, and Remotes
					r.limit(p)
					if _, due := r.due(p)["west"]; !due {
						store.DropCluster("west")
						linked = false
					}
					r.forget()
					_, linked = r.due(p)["west"]
					if linked && len(state.Services) > 0 {
						t.Fatalf("it is read again while %d services of before are in use", len(state.Services))
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
				for _, step := range tc.steps {
					reconcile(step)
					take()
				}
				last := tc.steps[len(tc.steps)-1]
				for len(r.leaving) > 0 || len(state.Services) > 0 {
					take()
					reconcile(last)
				}
				take()
				if len(state.RemoteClusters) != tc.left || linked != tc.linked {
					t.Errorf("limits in the end: %v; it is read: %v", state.RemoteClusters, linked)
				}
			})
		})
	}
}
