// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

// inbox tells a controller which objects to look at again, for reasons that no API server tells it. What arrives before the controller
// starts (it may have to be elected first) waits here, each name once; so what waits is bounded by the number of objects.
type inbox struct {
	mu      sync.Mutex
	queue   workqueue.TypedRateLimitingInterface[reconcile.Request] // nil until the controller starts
	waiting map[reconcile.Request]struct{}
}

func newInbox() *inbox { return &inbox{waiting: map[reconcile.Request]struct{}{}} }

// add never blocks.
func (i *inbox) add(name types.NamespacedName) {
	r := reconcile.Request{NamespacedName: name}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.queue == nil {
		i.waiting[r] = struct{}{}
		return
	}
	i.queue.Add(r)
}

// addSoon is for news that come often and may wait: however many come within delay, they are one.
func (i *inbox) addSoon(name types.NamespacedName, delay time.Duration) {
	i.mu.Lock()
	queue := i.queue
	i.mu.Unlock()
	if queue == nil {
		i.add(name)
		return
	}
	queue.AddAfter(reconcile.Request{NamespacedName: name}, delay)
}

// source is given to the controller's builder.
func (i *inbox) source() source.Source {
	return source.Func(func(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.queue = queue
		for r := range i.waiting {
			queue.Add(r)
		}
		clear(i.waiting)
		return nil
	})
}
