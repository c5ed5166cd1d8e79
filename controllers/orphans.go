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
// is provisioned, or keeps what was made for it. Once a Service of its own has taken the place of that no Deployment is made again, and nobody would ever tell these pods to end.

// endOrphans has pods told to end whose Deployment was deleted in that way, as deleting all of it would have: by deleting its ReplicaSets. It says how soon to look again: until as much time has gone by as before the
// Deployment would be deleted, and until the pods know; 0: there is nothing to look for. Those without pods go at once. What is being deleted is waited for no longer than its pods are, which are told by whoever does that.
// What somebody else's Deployment has taken is left to that one, and so is all that we may not see. Those with pods that we may not delete are barred.
func (r *GatewayReconciler) endOrphans(ctx context.Context, gateway *gatewayv1.Gateway) (wait time.Duration, barred []string, _ error) {
	var sets appsv1.ReplicaSetList
	labels := client.MatchingLabels{gatewayNameLabel: translate.ResourceName(gateway.Name), translate.LabelManagedBy: translate.ManagedBy}
	if err := r.reader.List(ctx, &sets, client.InNamespace(gateway.Namespace), labels); apierrors.IsForbidden(err) {
		return 0, nil, nil
	} else if err != nil {
		return 0, nil, fmt.Errorf("look for ReplicaSets: %w", err)
	}
	for i := range sets.Items {
		set := &sets.Items[i]
		if metav1.GetControllerOf(set) != nil || set.DeletionTimestamp != nil {
			continue
		}
		empty := ptr.Deref(set.Spec.Replicas, 1) == 0 && set.Status.Replicas == 0
		ending := time.Duration(ptr.Deref(set.Spec.Template.Spec.TerminationGracePeriodSeconds, 0))*time.Second - gatewayEnding
		if left := r.handovers.left(gateway, ending); left > 0 && !empty {
			wait = max(wait, min(left, handoverLook))
			continue
		}
		seen := client.Preconditions{UID: &set.UID, ResourceVersion: &set.ResourceVersion} // a Deployment may take it at this moment
		err := r.client.Delete(ctx, set, seen, client.PropagationPolicy(metav1.DeletePropagationBackground))
		_, refused := notTaken(err) // by who judges what may be deleted, too, whatever the code of that
		switch {
		case refused:
			if !empty {
				barred = append(barred, set.Name)
			}
		case err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err):
			return 0, nil, fmt.Errorf("delete a ReplicaSet whose Deployment is gone: %w", err)
		case !empty || apierrors.IsConflict(err):
			wait = handoverLook
		}
	}
	return wait, barred, nil
}
