// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/translate"
)

// A Deployment that is deleted with --cascade=orphan leaves its ReplicaSets behind, and their pods. One that is made again takes them over, as their labels are those that it selects by: so it is while the Gateway
// is provisioned. Once the Gateway has a Service of its own no Deployment is made again, and nobody would ever tell these pods to end.

// endOrphans has pods told to end whose Deployment was deleted in that way, as deleting all of it would have: by deleting its ReplicaSets. It says how soon to look again: until as much time has gone by as before the
// Deployment would be deleted, and until the pods know; 0: there are none. What somebody else's Deployment has taken is left to that one, and so is all that we may not see.
func (r *GatewayReconciler) endOrphans(ctx context.Context, gateway *gatewayv1.Gateway) (wait time.Duration, _ error) {
	var sets appsv1.ReplicaSetList
	labels := client.MatchingLabels{gatewayNameLabel: translate.ResourceName(gateway.Name), translate.LabelManagedBy: translate.ManagedBy}
	if err := r.reader.List(ctx, &sets, client.InNamespace(gateway.Namespace), labels); apierrors.IsForbidden(err) {
		return 0, nil
	} else if err != nil {
		return 0, fmt.Errorf("look for ReplicaSets: %w", err)
	}
	for i := range sets.Items {
		set := &sets.Items[i]
		if metav1.GetControllerOf(set) != nil {
			continue
		}
		ending := time.Duration(ptr.Deref(set.Spec.Template.Spec.TerminationGracePeriodSeconds, 0))*time.Second - gatewayEnding
		if left := r.handovers.left(gateway, ending); left > 0 {
			wait = max(wait, min(left, handoverLook))
			continue
		}
		wait = handoverLook
		if set.DeletionTimestamp != nil {
			continue
		}
		seen := client.Preconditions{UID: &set.UID, ResourceVersion: &set.ResourceVersion} // a Deployment may take it at this moment
		err := r.client.Delete(ctx, set, seen, client.PropagationPolicy(metav1.DeletePropagationBackground))
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return 0, fmt.Errorf("delete a ReplicaSet whose Deployment is gone: %w", err)
		}
	}
	return wait, nil
}
