// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// officeName is the Lease by which replicas agree who leads.
const officeName = "isthmus-controller"

// officeTimes are for how long a lease counts, until when a leader must have renewed it, and how often it tries.
type officeTimes struct{ duration, deadline, retry time.Duration }

// usualTimes: a leader that cannot renew its lease ends its process, and with it the streams of its proxies. An API server that is
// overloaded for half a minute must not do that, so the lease is longer than usual (15 s). A leader that ends in order hands over at once;
// after a crash, writing (statuses, provisioning, new addresses) pauses for at most its duration, and serving does not.
var usualTimes = officeTimes{duration: 60 * time.Second, deadline: 45 * time.Second, retry: 3 * time.Second}

// office is that of the leader, as one replica stands for it. A process holds it at most once: whoever loses it ends.
type office struct {
	identity  string
	namespace string
	times     officeTimes
	contested bool
	lock      resourcelock.Interface // nil unless it is contested
	news      lateRecorder
}

func newOffice(o Options) (*office, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("name this replica: %w", err)
	}
	f := &office{identity: host + "_" + string(uuid.NewUUID()), namespace: o.World.SystemNamespace, times: usualTimes, contested: o.LeaderElect}
	if o.term != nil {
		f.times = *o.term
	}
	if !f.contested {
		return f, nil
	}
	config := rest.AddUserAgent(rest.CopyConfig(o.Rest), "leader-election")
	config.Timeout = max(f.times.deadline/2, time.Second) // one question that hangs must not cost the lease
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("ask for leases: %w", err)
	}
	f.lock, err = resourcelock.New(resourcelock.LeasesResourceLock, f.namespace, officeName, clients.CoreV1(), clients.CoordinationV1(),
		resourcelock.ResourceLockConfig{Identity: f.identity, EventRecorder: &f.news})
	if err != nil {
		return nil, fmt.Errorf("lease %s: %w", officeName, err)
	}
	return f, nil
}

// leads gives a function that asks the API server who holds the office now. That a lease has run out does not matter as long as nobody
// else took it.
func (f *office) leads(reader client.Reader) func(context.Context) (bool, error) {
	return func(ctx context.Context) (bool, error) {
		if !f.contested {
			return true, nil
		}
		var lease coordinationv1.Lease
		if err := reader.Get(ctx, client.ObjectKey{Namespace: f.namespace, Name: officeName}, &lease); err != nil {
			return false, fmt.Errorf("ask who leads: %w", err)
		}
		return ptr.Deref(lease.Spec.HolderIdentity, "") == f.identity, nil
	}
}

// lateRecorder makes Events once there is a manager, which needs the lock first.
type lateRecorder struct {
	mu sync.Mutex
	to eventRecorder
}

func (r *lateRecorder) set(to eventRecorder) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.to = to
}

// Eventf implements resourcelock.EventRecorder.
func (r *lateRecorder) Eventf(about runtime.Object, _, reason, message string, args ...any) {
	r.mu.Lock()
	to := r.to
	r.mu.Unlock()
	if to != nil {
		to.Eventf(about, nil, corev1.EventTypeNormal, reason, "Elect", message, args...)
	}
}
