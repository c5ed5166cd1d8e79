// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
	"github.com/isthmus-mesh/isthmus/internal/translate"
)

// defaultsName is the ConfigMap that remembers which objects were made once: whoever deletes one of those does not get it back.
const defaultsName = "isthmus-defaults"

// gatewayClassStatus accepts every class that names us, unless it has parameters, of which we know no kind, and says what classes support, and whether the cluster's Gateway API is the
// one that we know.
type gatewayClassStatus struct {
	client client.Client
	reader client.Reader // of CRDs, which no cache has
}

// SetupWithManager follows classes.
func (w *gatewayClassStatus) SetupWithManager(mgr ctrl.Manager, news *inbox) error {
	return ctrl.NewControllerManagedBy(mgr).Named("gatewayclass").For(&gatewayv1.GatewayClass{}).WatchesRawSource(news.source()).Complete(w)
}

// Reconcile writes the status of one class, and asks to be called again for the versions of CRDs.
func (w *gatewayClassStatus) Reconcile(ctx context.Context, r ctrl.Request) (ctrl.Result, error) {
	writer := &statusWriter{
		client: w.client, empty: func() client.Object { return &gatewayv1.GatewayClass{} },
		fill: func(_ context.Context, o client.Object) time.Duration {
			class := o.(*gatewayv1.GatewayClass)
			if class.Spec.ControllerName != translate.ControllerName {
				return 0
			}
			fillGatewayClass(class, installedVersion(ctx, w.reader))
			return versionsEvery
		},
	}
	return writer.Reconcile(ctx, r)
}

// fillGatewayClass is for a class of ours.
func fillGatewayClass(class *gatewayv1.GatewayClass, supported metav1.Condition) {
	accepted := condition(string(gatewayv1.GatewayClassConditionStatusAccepted), true, string(gatewayv1.GatewayClassReasonAccepted), "the class is served")
	if class.Spec.ParametersRef != nil {
		accepted = condition(accepted.Type, false, string(gatewayv1.GatewayClassReasonInvalidParameters), "spec.parametersRef: no kind of parameters is supported")
	}
	setCondition(&class.Status.Conditions, accepted, class.Generation)
	setCondition(&class.Status.Conditions, supported, class.Generation)
	class.Status.SupportedFeatures = nil
	if class.Name != translate.ClassWaypoint { // waypoints are not for clients outside the mesh, as which the suite judges
		class.Status.SupportedFeatures = slices.Clone(supportedFeatures)
	}
}

// defaults makes, when a replica is elected, the objects that users expect to be there.
type defaults struct {
	client    client.Client
	reader    client.Reader
	namespace string
	log       logr.Logger
}

// NeedLeaderElection is true: one replica makes them.
func (d *defaults) NeedLeaderElection() bool { return true }

// Start makes what is missing, and tries again until that worked.
func (d *defaults) Start(ctx context.Context) error {
	for wait := retryMin; ; wait = min(2*wait, retryMax) {
		err := d.make(ctx)
		if err == nil {
			return nil
		}
		d.log.Error(err, "default objects are missing")
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

func (d *defaults) make(ctx context.Context) error {
	var errs []error
	for name, description := range map[string]string{
		translate.ClassEastWest: "A cluster's entry point for other clusters",
		translate.ClassWaypoint: "L7 routes and policy for services inside the mesh",
	} {
		class := &gatewayv1.GatewayClass{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       gatewayv1.GatewayClassSpec{ControllerName: translate.ControllerName, Description: ptr.To(description)},
		}
		if err := d.client.Create(ctx, class, fieldOwner); err != nil && !apierrors.IsAlreadyExists(err) {
			errs = append(errs, fmt.Errorf("create GatewayClass %s: %w", name, err))
		}
	}
	return errors.Join(append(errs, d.makeOnce(ctx))...)
}

func (d *defaults) makeOnce(ctx context.Context) error {
	memory := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: d.namespace, Name: defaultsName}}
	err := d.reader.Get(ctx, client.ObjectKeyFromObject(memory), memory)
	if err == nil {
		return nil
	}
	if !apierrors.IsNotFound(err) {
		return fmt.Errorf("read ConfigMap %s: %w", defaultsName, err)
	}
	scope := defaultScope()
	if err := d.client.Create(ctx, scope, fieldOwner); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create ServiceScope %s: %w", scope.Name, err)
	}
	memory.Data = map[string]string{"serviceScope": scope.Name}
	if err := d.client.Create(ctx, memory, fieldOwner); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create ConfigMap %s: %w", defaultsName, err)
	}
	return nil
}

// defaultScope makes services GLOBAL that carry the label by which ambient users know it.
func defaultScope() *v1alpha1.ServiceScope {
	return &v1alpha1.ServiceScope{
		ObjectMeta: metav1.ObjectMeta{Name: "default"},
		Spec: v1alpha1.ServiceScopeSpec{ServiceScopeConfigs: []v1alpha1.ServiceScopeConfig{{
			ServicesSelector: &v1alpha1.LabelSelector{MatchExpressions: []v1alpha1.LabelSelectorRequirement{
				{Key: "istio.io/global", Operator: v1alpha1.OperatorIn, Values: []v1alpha1.LabelValue{"true"}},
			}},
			Scope: v1alpha1.ScopeGlobal,
		}}},
	}
}
