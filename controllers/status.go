// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// fieldOwner names us as the owner of what we write.
const fieldOwner = client.FieldOwner("isthmus-controller")

// conflictWait is how soon a status is written again after somebody else wrote the object.
const conflictWait = 50 * time.Millisecond

// statusWriter keeps the status of one kind: it computes what the status shall be, and writes if that differs. The leader alone runs it.
type statusWriter struct {
	name   string
	client client.Client
	empty  func() client.Object
	// ready is closed once it is known what the status shall be; nil: it is from the beginning. Until then a writer has nothing to do, so that it waits: to look again
	// now and then at each of thousands of objects, while all are being read, took a fifth of the controller's time at its start.
	ready <-chan struct{}
	// fill changes the status of the object in place. A positive duration asks to be called again after it.
	fill func(context.Context, client.Object) time.Duration
}

// SetupWithManager follows the kind, and the inbox for news of our own.
func (w *statusWriter) SetupWithManager(mgr ctrl.Manager, news *inbox) error {
	return ctrl.NewControllerManagedBy(mgr).Named(w.name).For(w.empty()).WatchesRawSource(news.source()).Complete(w)
}

// Reconcile writes the status of one object if it is not what it shall be.
func (w *statusWriter) Reconcile(ctx context.Context, r ctrl.Request) (ctrl.Result, error) {
	if w.ready != nil {
		select {
		case <-w.ready:
		case <-ctx.Done():
			return ctrl.Result{}, ctx.Err()
		}
	}
	object := w.empty()
	if err := w.client.Get(ctx, r.NamespacedName, object); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	before := object.DeepCopyObject()
	again := w.fill(ctx, object)
	if !equality.Semantic.DeepEqual(before, object) {
		object.SetManagedFields(nil) // what a cache keeps of them is a part, and a part would count as all
		err := w.client.Status().Update(ctx, object, fieldOwner)
		switch {
		case apierrors.IsConflict(err):
			return ctrl.Result{RequeueAfter: conflictWait}, nil // the cache is behind
		case err != nil && !apierrors.IsNotFound(err):
			return ctrl.Result{}, fmt.Errorf("write status: %w", err)
		}
	}
	return ctrl.Result{RequeueAfter: again}, nil
}

// findings is the part of the Pipeline that statuses read.
type findings interface {
	Findings(kind world.Kind, namespace, name string) []translate.Finding
	Plan(namespace, name string) *translate.GatewayPlan
	Addresses(namespace, name string) ([]world.GatewayAddress, bool)
	Scope(name string) (translate.ScopeStatus, bool)
	Remote(id world.Cluster) translate.RemoteCount
	Listeners(kind world.Kind, namespace, name string) []translate.ListenerState
	AttachedSets(namespace, name string) (int, bool)
}

// newGatewayStatus writes what became of Gateways. Until ready is closed that is about a part of what there is, and nothing is written.
func newGatewayStatus(c client.Client, p findings, inTheWay *obstacles, ready <-chan struct{}) *statusWriter {
	return &statusWriter{
		name: "gateway-status", client: c, ready: ready, empty: func() client.Object { return &gatewayv1.Gateway{} },
		fill: func(_ context.Context, o client.Object) time.Duration {
			fillGateway(o.(*gatewayv1.Gateway), p, inTheWay)
			return 0
		},
	}
}

// Condition types of a Gateway and of a listener that we own.
var (
	gatewayTypes  = []string{string(gatewayv1.GatewayConditionAccepted), string(gatewayv1.GatewayConditionProgrammed), string(gatewayv1.GatewayConditionResolvedRefs), string(gatewayv1.GatewayConditionInsecureFrontendValidationMode), conditionScaled}
	listenerTypes = []string{string(gatewayv1.ListenerConditionAccepted), string(gatewayv1.ListenerConditionProgrammed), string(gatewayv1.ListenerConditionResolvedRefs), string(gatewayv1.ListenerConditionConflicted), string(gatewayv1.ListenerConditionOverlappingTLSConfig)}
)

func fillGateway(g *gatewayv1.Gateway, p findings, inTheWay *obstacles) {
	all := p.Findings(world.KindGateway, g.Namespace, g.Name)
	if len(all) == 0 || all[0].UID != string(g.UID) {
		return // of a class that is not ours, or not looked at yet, as far as there was an earlier one of the name
	}
	addresses, _ := p.Addresses(g.Namespace, g.Name)
	var status []gatewayv1.GatewayStatusAddress
	for _, a := range addresses {
		kind := gatewayv1.AddressType(a.Type)
		status = append(status, gatewayv1.GatewayStatusAddress{Type: &kind, Value: a.Value})
	}
	g.Status.Addresses = status
	if inTheWay.unknown(p, client.ObjectKeyFromObject(g)) {
		return // what was said of it stays until it is known
	}
	all = inTheWay.instead(g, all)
	applyFindings(&g.Status.Conditions, all, g.Generation, gatewayTypes...)

	states := p.Listeners(world.KindGateway, g.Namespace, g.Name)
	var listeners []gatewayv1.ListenerStatus
	for _, l := range g.Spec.Listeners {
		entry := gatewayv1.ListenerStatus{Name: l.Name}
		if i := slices.IndexFunc(g.Status.Listeners, func(s gatewayv1.ListenerStatus) bool { return s.Name == l.Name }); i >= 0 {
			entry.Conditions = g.Status.Listeners[i].Conditions
		}
		entry.SupportedKinds, entry.AttachedRoutes = listenerState(states, string(l.Name))
		applyListener(&entry.Conditions, all, string(l.Name), g.Generation)
		listeners = append(listeners, entry)
	}
	g.Status.Listeners = listeners

	g.Status.AttachedListenerSets = nil
	if n, any := p.AttachedSets(g.Namespace, g.Name); any {
		if found, is := inTheWay.before(client.ObjectKeyFromObject(g)); is && found.uid == g.UID && found.stays {
			n = 0 // none is accepted
		}
		g.Status.AttachedListenerSets = ptr.To(clampCount(n))
	}
}

// listenerState is the part of a listener's status that is no condition.
func listenerState(states []translate.ListenerState, name string) (kinds []gatewayv1.RouteGroupKind, attached int32) {
	kinds = []gatewayv1.RouteGroupKind{}
	i := slices.IndexFunc(states, func(s translate.ListenerState) bool { return s.Name == name })
	if i < 0 {
		return kinds, 0
	}
	for _, k := range states[i].Kinds {
		group, kind, _ := strings.Cut(k, "/")
		kinds = append(kinds, gatewayv1.RouteGroupKind{Group: (*gatewayv1.Group)(&group), Kind: gatewayv1.Kind(kind)})
	}
	return kinds, clampCount(states[i].Attached)
}

// applyListener is applyFindings for those about one listener. Conditions are never null.
func applyListener(conditions *[]metav1.Condition, all []translate.Finding, name string, generation int64) {
	own := of(all, name)
	for i := range own {
		own[i].Listener = ""
	}
	if *conditions == nil {
		*conditions = []metav1.Condition{}
	}
	applyFindings(conditions, own, generation, listenerTypes...)
}

func newServiceScopeStatus(c client.Client, p findings) *statusWriter {
	return &statusWriter{
		name: "servicescope-status", client: c, empty: func() client.Object { return &v1alpha1.ServiceScope{} },
		fill: func(_ context.Context, o client.Object) time.Duration {
			fillServiceScope(o.(*v1alpha1.ServiceScope), p)
			return 0
		},
	}
}

func fillServiceScope(s *v1alpha1.ServiceScope, p findings) {
	counts, ok := p.Scope(s.Name)
	if !ok {
		return
	}
	found := p.Findings(world.KindServiceScope, "", s.Name)
	applyFindings(&s.Status.Conditions, found, s.Generation, v1alpha1.ServiceScopeAccepted, v1alpha1.ServiceScopeConflicted)
	for _, f := range found {
		s.Status.ObservedGeneration = max(s.Status.ObservedGeneration, f.Generation)
	}
	s.Status.GlobalServices, s.Status.LocalServices = clampCount(counts.Global), clampCount(counts.Local)
	s.Status.Conflicts = nil
	for _, c := range counts.Conflicts {
		conflict := v1alpha1.ServiceConflict{Namespace: c.Namespace, Name: c.Name, Message: c.Message}
		for _, id := range c.Clusters[:min(len(c.Clusters), 16)] { // MaxItems of the field
			conflict.Clusters = append(conflict.Clusters, string(id))
		}
		s.Status.Conflicts = append(s.Status.Conflicts, conflict)
	}
}

// newServiceStatus writes our conditions on Services, which are there only while something is wrong.
func newServiceStatus(c client.Client, p findings) *statusWriter {
	return &statusWriter{
		name: "service-status", client: c, empty: func() client.Object { return &corev1.Service{} },
		fill: func(_ context.Context, o client.Object) time.Duration {
			s := o.(*corev1.Service)
			applyFindings(&s.Status.Conditions, p.Findings(world.KindService, s.Namespace, s.Name), s.Generation, translate.ConditionAccepted, translate.ConditionConflicted, translate.ConditionWaypointBound)
			return 0
		},
	}
}

func newRemoteClusterStatus(c client.Client, p findings, remotes *Remotes, plan *RemoteReconciler, trusts func(domain string) bool, short func(world.Cluster) vipShort) *statusWriter {
	pace := newShares[string](statusRate, statusBurst)
	return &statusWriter{
		name: "remotecluster-status", client: c, empty: func() client.Object { return &v1alpha1.RemoteCluster{} },
		fill: func(_ context.Context, o client.Object) time.Duration {
			r := o.(*v1alpha1.RemoteCluster)
			facts := remoteFacts{findings: p.Findings(world.KindRemoteCluster, "", r.Name)}
			id := world.Cluster(r.ClusterID())
			if f, ok := plan.Refused(r.Name); ok {
				facts.refused = &f
			} else if s, ok := remotes.State(id); ok {
				facts.state = &s
				facts.count, facts.short = p.Remote(id), short(id)
				if domain := r.Spec.TrustDomain; domain != "" && !trusts(domain) {
					facts.rootless = domain
				}
			}
			status := remoteStatus(r.Status, r.Generation, string(id), facts)
			if wait := unhurried(r.Status, status, time.Now()); wait > 0 {
				return wait
			}
			if !equality.Semantic.DeepEqual(r.Status, status) && !pace.allow(r.Name) {
				return statusWait
			}
			r.Status = status
			return contactEvery
		},
	}
}
