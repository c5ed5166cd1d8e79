// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"fmt"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// crowd is how many services a server claims to have beside those that it holds. They are made up while they are told.
type crowd struct {
	services atomic.Int64
	told     atomic.Int64 // bytes of watches, over all of them
}

// Crowd has watches that begin with what there is tell of so many services more, from now on.
func (s *Server) Crowd(services int) { s.crowd.services.Store(int64(services)) }

// Told counts the bytes that watches were sent.
func (s *Server) Told() int64 { return s.crowd.told.Load() }

// Delete removes an object.
func (s *Server) Delete(o client.Object) error {
	t, err := s.tableOf(o)
	if err != nil {
		return err
	}
	_, err = s.remove(t, keyOf(o))
	return err
}

// tell sends the crowd, if the watch is about services.
func (c *crowd) tell(t *table, out *frames) error {
	if t.resource.name != "services" {
		return nil
	}
	cluster := &Cluster{Size: Size{Services: 1}}
	for i := range int(c.services.Load()) {
		o := cluster.service(i % 40_000) // as many have an address
		o.Name, o.Spec.ClusterIP, o.Spec.ClusterIPs, o.ResourceVersion = fmt.Sprintf("crowd-%d", i), corev1.ClusterIPNone, nil, "1"
		o.ManagedFields = nil // which would cost us more than them
		o.SetGroupVersionKind(t.resource.kind)
		if err := out.send(&event{what: watch.Added, object: o}); err != nil {
			return err
		}
	}
	return nil
}
