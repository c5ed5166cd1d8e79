// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// fieldTree is what a manager owns of an object, as the API server writes it: {"f:spec":{"f:paused":{}}}.
type fieldTree map[string]fieldTree

// reclaimed says of which fields of an object's specification that others wrote we take the ownership, so that applying, which leaves alone what others own, takes them away: what of a
// Deployment makes its pods other ones than were planned, what of an autoscaler has more or fewer of them, what of a disruption budget lets more of them go or none (its two bounds
// exclude each other, so that ours beside somebody's would be refused), and what of a Service sends traffic to them that was not. `kubectl rollout restart`
// writes an annotation, and may.
func reclaimed(o client.Object) func(path []string) bool {
	switch o.(type) {
	case *appsv1.Deployment:
		return func(path []string) bool {
			metadata := path[0] == "f:template" && len(path) > 1 && path[1] == "f:metadata"
			return path[0] != "f:replicas" && !metadata
		}
	case *autoscalingv2.HorizontalPodAutoscaler, *policyv1.PodDisruptionBudget:
		return func([]string) bool { return true }
	case *corev1.Service:
		return func(path []string) bool {
			return slices.Contains([]string{"f:externalIPs", "f:publishNotReadyAddresses", "f:sessionAffinity", "f:sessionAffinityConfig"}, path[0])
		}
	}
	return func([]string) bool { return false }
}

// reclaim makes us the owner of what others have added to objects that were made for a Gateway. What is applied next takes it away, or puts it right.
func (r *GatewayReconciler) reclaim(ctx context.Context, of client.ObjectKey) error {
	for _, object := range []client.Object{&appsv1.Deployment{}, &corev1.Service{}, &policyv1.PodDisruptionBudget{}, &autoscalingv2.HorizontalPodAutoscaler{}} {
		if err := r.reader.Get(ctx, of, object); client.IgnoreNotFound(err) != nil { // the cache keeps nobody's fields
			return fmt.Errorf("look who wrote %T: %w", object, err)
		} else if err != nil {
			continue
		}
		managed, changed, err := reclaimFields(object.GetManagedFields(), reclaimed(object))
		if err != nil {
			return fmt.Errorf("who wrote %T: %w", object, err)
		}
		if !changed {
			continue
		}
		patch, err := json.Marshal([]map[string]any{
			{"op": "replace", "path": "/metadata/managedFields", "value": managed},
			{"op": "replace", "path": "/metadata/resourceVersion", "value": object.GetResourceVersion()}, // a conflict, if somebody was faster
		})
		if err != nil {
			return err
		}
		if err := r.client.Patch(ctx, object, client.RawPatch(types.JSONPatchType, patch)); err != nil {
			return fmt.Errorf("take the ownership of what others wrote into %T: %w", object, err)
		}
	}
	return nil
}

// reclaimFields moves what takes says of from others to us. It changes nothing as long as we have applied nothing.
func reclaimFields(all []metav1.ManagedFieldsEntry, takes func(path []string) bool) (_ []metav1.ManagedFieldsEntry, changed bool, _ error) {
	ours := slices.IndexFunc(all, func(e metav1.ManagedFieldsEntry) bool {
		return e.Manager == string(fieldOwner) && e.Operation == metav1.ManagedFieldsOperationApply && e.Subresource == "" && e.FieldsV1 != nil
	})
	if ours < 0 {
		return all, false, nil
	}
	out := slices.Clone(all)
	mine, err := readTree(all[ours])
	if err != nil {
		return nil, false, err
	}
	for i, e := range out {
		if i == ours || e.Subresource != "" || e.FieldsV1 == nil || e.Manager == string(fieldOwner) {
			continue
		}
		theirs, err := readTree(e)
		if err != nil {
			return nil, false, err
		}
		spec := theirs["f:spec"]
		if mine["f:spec"] == nil {
			mine["f:spec"] = fieldTree{}
		}
		if !move(spec, mine["f:spec"], nil, takes) {
			continue
		}
		changed = true
		if len(spec) == 0 {
			delete(theirs, "f:spec")
		}
		if out[i], err = writeTree(e, theirs); err != nil {
			return nil, false, err
		}
	}
	if !changed {
		return all, false, nil
	}
	out[ours], err = writeTree(all[ours], mine)
	return slices.DeleteFunc(out, func(e metav1.ManagedFieldsEntry) bool {
		return e.FieldsV1 != nil && string(e.FieldsV1.GetRawBytes()) == "{}"
	}), true, err
}

// move takes out of from what takes says of, path by path, and puts it into to. It says whether there was any.
func move(from, to fieldTree, above []string, takes func(path []string) bool) (moved bool) {
	for name, under := range from {
		path := append(slices.Clone(above), name)
		if len(under) > 0 {
			into := to[name]
			if into == nil {
				into = fieldTree{}
			}
			if move(under, into, path, takes) {
				moved, to[name] = true, into
			}
			if len(under) == 0 {
				delete(from, name)
			}
			continue
		}
		if !takes(path) {
			continue
		}
		if to[name] == nil {
			to[name] = fieldTree{}
		}
		delete(from, name)
		moved = true
	}
	return moved
}

func readTree(e metav1.ManagedFieldsEntry) (fieldTree, error) {
	var t fieldTree
	if err := json.Unmarshal(e.FieldsV1.GetRawBytes(), &t); err != nil {
		return nil, fmt.Errorf("the fields of manager %s: %w", e.Manager, err)
	}
	return t, nil
}

func writeTree(e metav1.ManagedFieldsEntry, t fieldTree) (metav1.ManagedFieldsEntry, error) {
	raw, err := json.Marshal(t)
	e.FieldsV1 = metav1.NewFieldsV1(string(raw))
	return e, err
}
