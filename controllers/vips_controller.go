// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// vipLookAgain is how soon a leader looks again that waits for a cluster to be read, or that may be none.
const vipLookAgain = 30 * time.Second

// VIPReconciler keeps the addresses of services that exist in other clusters only. Every replica reads them from ConfigMaps into the
// store; the leader also gives out new ones, and writes them before anybody uses them. Whoever believes to lead and does not can neither
// change an address nor give one out: a new leader first writes its name into every ConfigMap, and each write is of the version that was read.
type VIPReconciler struct {
	client    client.Client
	reader    client.Reader // sees what the API server has: an address must not be given out twice
	namespace string
	store     *world.Store
	want      func() map[mesh.ServiceKey][]world.Cluster
	leading   <-chan struct{}
	// complete is closed once want is about the whole world: before, an address might seem to be wanted no longer.
	complete <-chan struct{}
	// heard says how much is known of each linked cluster. What one has that is not heard of is not taken back.
	heard func() map[world.Cluster]heard
	// pace is how far apart passes are at least; 0: nothing bounds them.
	pace time.Duration
	// budget bounds the writing that clusters can cause; nil: nothing does. Owned by Reconcile.
	budget *vipBudget
	// short is told how many services of which clusters are without an address, when that changes; or nil.
	short func(map[world.Cluster]vipShort)
	// named is the RemoteCluster that speaks for a cluster, which may have another name; "" if there is none.
	named func(world.Cluster) string
	// identity is this process' name as a leader, and leads asks the API server whether it is the leader's now.
	identity string
	leads    func(context.Context) (bool, error)
	events   eventRecorder
	log      logr.Logger

	once   sync.Once
	loaded chan struct{}
	last   leases // what was last read or written; owned by Reconcile
	// refused are how many services of each cluster had no address last time; owned by Reconcile.
	refused map[world.Cluster]vipShort
	ended   time.Time     // of the last pass; owned by Reconcile
	took    time.Duration // the last pass; owned by Reconcile
}

// Loaded is closed after the ConfigMaps were read once.
func (r *VIPReconciler) Loaded() <-chan struct{} { return r.loaded }

// NeedLeaderElection is false: every replica reads.
func (r *VIPReconciler) NeedLeaderElection() bool { return false }

// SetupWithManager follows the ConfigMaps, and news of what is wanted.
func (r *VIPReconciler) SetupWithManager(mgr ctrl.Manager, news *inbox) error {
	everywhere := false
	mine := handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
		if o.GetNamespace() != r.namespace || !isShard(o.GetName()) {
			return nil
		}
		return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: r.namespace, Name: vipsName}}} // all at once
	})
	news.add(types.NamespacedName{Namespace: r.namespace, Name: vipsName})
	return ctrl.NewControllerManagedBy(mgr).Named("vips").
		Watches(&corev1.ConfigMap{}, mine).
		WatchesRawSource(news.source()).
		WithOptions(controller.Options{NeedLeaderElection: &everywhere}).
		Complete(r)
}

// Reconcile reads, and if this replica leads, allocates and writes.
func (r *VIPReconciler) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	began := time.Now()
	if rest := min(max(r.pace, vipShare*r.took), vipPaceMost); r.pace > 0 && began.Sub(r.ended) < rest {
		return ctrl.Result{RequeueAfter: rest - began.Sub(r.ended)}, nil
	}
	defer func() { r.ended, r.took = time.Now(), time.Since(began) }()
	shards, err := readVIPMaps(ctx, r.reader, r.namespace)
	if err != nil {
		return ctrl.Result{}, err
	}
	current, found := shards.leases(r.last)
	wait, err := r.lead(ctx, shards, &current, found)
	if err != nil {
		return ctrl.Result{}, err
	}
	r.last = current
	r.feed(current)
	r.once.Do(func() { close(r.loaded) })
	return ctrl.Result{RequeueAfter: wait}, nil
}

// lead gives out addresses if this replica leads, and says when to look again; zero is not before there is news.
func (r *VIPReconciler) lead(ctx context.Context, shards *vipMaps, current *leases, found damage) (time.Duration, error) {
	for _, condition := range []<-chan struct{}{r.leading, r.complete} {
		select {
		case <-condition:
		default:
			return 0, nil // both wake this reconciler when they come true
		}
	}
	before := r.heard()
	want := r.want()
	unheard := unheardNow(before, r.heard()) // whoever was heard of before and after it was when we were told what it has
	if len(*current) == 0 && len(want) == 0 && !shards.exist() {
		r.refuse(given{})
		return 0, nil
	}
	if !shards.claimed(r.identity) {
		// Asked after everything was read: whoever leads after us has not given out anything that we do not know, and once they have their
		// name in a ConfigMap we cannot write it. And before anything is on a cluster's account.
		if leads, err := r.leads(ctx); err != nil || !leads {
			return vipLookAgain, err
		}
		if err := shards.write(ctx, r.client, *current, r.identity); err != nil {
			return 0, err
		}
	}
	now := time.Now()
	r.budget.pass(now)
	out := giving{want: want, unheard: unheard, budget: r.budget, now: now}.to(*current)
	r.refuse(out)
	after, wait := out.leases, time.Duration(0)
	if out.kept {
		wait = vipLookAgain
	}
	if err := shards.write(ctx, r.client, after, r.identity); err != nil {
		data := after.encode()
		r.budget.giveBack(func(shard int) bool { return maps.Equal(data[shard], shards[shard].Data) }, now)
		return 0, err
	}
	r.tell(found)
	*current = after
	if !out.next.IsZero() {
		if rest := max(time.Until(out.next), time.Second); wait == 0 || rest < wait {
			wait = rest
		}
	}
	return wait, nil
}

// refuse says which clusters have services without an address here, when that changes.
func (r *VIPReconciler) refuse(out given) {
	refused := map[world.Cluster]vipShort{}
	for c, n := range out.unserved {
		refused[c] = vipShort{unserved: n, waiting: out.waiting[c]}
	}
	for c, n := range out.waiting {
		refused[c] = vipShort{unserved: out.unserved[c], waiting: n}
	}
	for _, c := range slices.Sorted(maps.Keys(out.unserved)) {
		if r.refused[c].unserved > 0 {
			continue
		}
		r.log.Error(fmt.Errorf("no cluster has more than %d addresses of %s, or more than are left for others", vipMost, vipRange), "services have no address here", "cluster", c, "services", out.unserved[c])
		name := r.named(c)
		if name == "" {
			continue // it was unlinked just now
		}
		r.events.Eventf(referenceTo(v1alpha1.GroupVersion.String(), "RemoteCluster", "", name), nil, corev1.EventTypeWarning, "AddressesUsedUp", "KeepAddresses", "%s",
			note("%d of its services have no address here: no cluster is given more than %d of %s, or more than are left for others, and addresses of services that went away rest for %s", out.unserved[c], vipMost, vipRange, vipRest))
	}
	if r.short != nil && !maps.Equal(r.refused, refused) {
		r.short(refused)
	}
	r.refused = refused
}

// tell says what was damaged and is put right now.
func (r *VIPReconciler) tell(found damage) {
	if len(found.maps) == 0 && len(found.bad) == 0 {
		return
	}
	r.log.Info("ConfigMaps of reserved addresses were damaged", "message", found.String())
	name := vipsName
	if len(found.maps) > 0 {
		name = found.maps[0]
	}
	r.events.Eventf(referenceTo("v1", "ConfigMap", r.namespace, name), nil, corev1.EventTypeWarning, "AddressesDamaged", "KeepAddresses", "%s", note("%s", found.String()))
}

// feed puts the addresses in use into the store, and takes out the others. In use is also what this replica still sees a service for,
// whatever another one thought: such an address rests, so that nobody else has it.
func (r *VIPReconciler) feed(current leases) {
	want := r.want()
	there := map[world.ObjectRef]bool{}
	for k, v := range current {
		if _, wanted := want[k]; v.Released != nil && !wanted {
			continue
		}
		vip := world.NewVIP(k, v.V4, v.V6)
		there[vip.Ref()] = true
		r.store.Put(vip)
	}
	for _, ref := range r.store.Refs("") {
		if ref.Kind == world.KindVIP && !there[ref] {
			r.store.Delete(ref)
		}
	}
}
