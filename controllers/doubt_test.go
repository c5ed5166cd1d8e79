// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
	"github.com/isthmus-mesh/isthmus/test/ambient"
)

func TestInDoubt(t *testing.T) {
	doubt := inDoubt([]world.Cluster{"north", "west"})
	for name, want := range map[string]bool{
		"east//Pod/shop/cart-1": false, // ours
		"west//Pod/shop/cart-1": true,
		"south//Pod/shop/cart":  false, // was heard of
		"east/discovery.k8s.io/EndpointSlice/shop/cart-x/192.0.2.1":                                   false,
		"west/discovery.k8s.io/EndpointSlice/shop/cart-x/192.0.2.1":                                   true,
		"w/SplitHorizonWorkload/isthmus-system/eastwest/203.0.113.9/shop/cart.shop.svc.cluster.local": true,
		"NetworkGateway/w/203.0.113.9/15008":                                                          true,
		"shop/cart.shop.svc.cluster.local":                                                            true,
		"east/x.east.svc.cluster.local":                                                               true, // a service of a namespace that is called as our cluster
		"w/10.0.0.1":                                                                                  true,
		"":                                                                                            true,
	} {
		if got := doubt(name); got != want {
			t.Errorf("%q is in doubt: %t, want %t", name, got, want)
		}
	}
	if inDoubt(nil) != nil {
		t.Error("there is doubt about nothing")
	}
}

// After the deadline each cluster that is heard of at last ends the doubt about it, and the last one all doubt, however long that takes.
func TestDoubtEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &published{view: mesh.NewSnapshot()}
		began := time.Now()
		known := func() (bool, []world.Cluster) {
			switch d := time.Since(began); {
			case d < time.Minute:
				return true, []world.Cluster{"north", "west"}
			case d < time.Hour:
				return true, []world.Cluster{"west"}
			default:
				return true, nil
			}
		}
		p := NewPipeline(world.NewStore(), testWorld, out, known, func(translate.Change) {}, logr.Discard())
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = p.Start(ctx) })
		for _, step := range []struct {
			at          time.Duration
			north, west bool
		}{
			{bootDeadline + time.Second, true, true},
			{time.Minute + 3*doubtTick, false, true},
			{time.Hour - time.Second, false, true},
			{time.Hour + 3*doubtTick, false, false},
		} {
			time.Sleep(step.at - time.Since(began))
			synctest.Wait()
			if !out.ready {
				t.Fatalf("nobody is answered after %v", step.at)
			}
			doubt := out.doubts()
			asked := func(name string) bool { return doubt != nil && doubt(name) }
			if asked("north//Pod/a/b") != step.north || asked("west//Pod/a/b") != step.west || (doubt == nil) != !step.west {
				t.Errorf("after %v: doubt about north %t, west %t", step.at, asked("north//Pod/a/b"), asked("west//Pod/a/b"))
			}
		}
		cancel()
		running.Wait()
	})
}

var _ = Describe("A controller that knows its clusters", func() {
	It("says so", func() {
		z := ambient.New(ztunnelOn("ztunnel-complete", "node-1"))
		session(z)
		Eventually(z.Ready).Should(BeTrue())
		for _, r := range z.Heard() {
			Expect(r.Partial).To(BeFalse())
		}
	})
})
