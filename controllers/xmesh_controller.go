// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"github.com/isthmus-mesh/isthmus/internal/translate"
)

// meshName is the XMesh that we make.
const meshName = "isthmus"

// meshStatus says what the mesh supports, in a cluster whose Gateway API is of the experimental channel, which alone has a kind for that. It makes an XMesh if there is none of the name, as the API
// asks of a mesh, and never changes what is wanted of one. Every one that names us has a status; others are not ours.
type meshStatus struct{ client client.Client }

// SetupWithManager follows XMeshes, and looks once at the one that shall be there.
func (w *meshStatus) SetupWithManager(mgr ctrl.Manager, news *inbox) error {
	news.add(types.NamespacedName{Name: meshName})
	return ctrl.NewControllerManagedBy(mgr).Named("xmesh").For(&gatewayxv1alpha1.XMesh{}).WatchesRawSource(news.source()).Complete(w)
}

// Reconcile makes ours if it is missing, and writes the status of one that is there.
func (w *meshStatus) Reconcile(ctx context.Context, r ctrl.Request) (ctrl.Result, error) {
	if r.Name == meshName {
		if err := w.make(ctx); err != nil {
			return ctrl.Result{}, err
		}
	}
	writer := &statusWriter{
		client: w.client, empty: func() client.Object { return &gatewayxv1alpha1.XMesh{} },
		fill: func(_ context.Context, o client.Object) time.Duration {
			fillMesh(o.(*gatewayxv1alpha1.XMesh))
			return 0
		},
	}
	return writer.Reconcile(ctx, r)
}

// make makes ours if there is none, of nobody.
func (w *meshStatus) make(ctx context.Context) error {
	mesh := &gatewayxv1alpha1.XMesh{ObjectMeta: metav1.ObjectMeta{Name: meshName}}
	err := w.client.Get(ctx, client.ObjectKeyFromObject(mesh), mesh)
	if !apierrors.IsNotFound(err) {
		return err
	}
	mesh.Spec.ControllerName = translate.ControllerName
	if err := w.client.Create(ctx, mesh, fieldOwner); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create XMesh %s: %w", meshName, err)
	}
	return nil
}

// fillMesh writes the status of an XMesh that names us. We know no kind of parameters.
func fillMesh(mesh *gatewayxv1alpha1.XMesh) {
	if mesh.Spec.ControllerName != translate.ControllerName {
		return
	}
	accepted := condition(string(gatewayxv1alpha1.MeshConditionAccepted), true, string(gatewayxv1alpha1.MeshReasonAccepted), "routes at Services are enforced")
	if mesh.Spec.ParametersRef != nil {
		accepted = condition(accepted.Type, false, string(gatewayxv1alpha1.MeshReasonInvalidParameters), "spec.parametersRef: no kind of parameters is supported")
	}
	setCondition(&mesh.Status.Conditions, accepted, mesh.Generation)
	mesh.Status.SupportedFeatures = slices.Clone(meshFeatures)
}

// mayReadMeshes is an error while a ClusterRole that is older than the image does not let us read XMeshes: a watch that is refused would end the process.
func mayReadMeshes(reader client.Reader) error {
	ctx, cancel := context.WithTimeout(context.Background(), lookAgainEvery)
	defer cancel()
	return reader.List(ctx, &gatewayxv1alpha1.XMeshList{}, client.Limit(1))
}
