// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// policyStatusWriter keeps our one condition on a kind of policies whose CRD may be missing, and whose conditions have a form of their own; so they
// are written untyped. It is told of each policy about which there is something to say; without such there is nothing to do, so nothing is watched.
type policyStatusWriter struct {
	kind     world.Kind    // of group security.istio.io
	client   client.Client // asks the API server for untyped objects
	findings findings
}

// SetupWithManager follows the inbox alone.
func (w *policyStatusWriter) SetupWithManager(mgr ctrl.Manager, news *inbox) error {
	return ctrl.NewControllerManagedBy(mgr).Named(strings.ToLower(string(w.kind)) + "-status").WatchesRawSource(news.source()).Complete(w)
}

// Reconcile writes the condition of one policy.
func (w *policyStatusWriter) Reconcile(ctx context.Context, r ctrl.Request) (ctrl.Result, error) {
	policy := &unstructured.Unstructured{}
	policy.SetGroupVersionKind(schema.GroupVersionKind{Group: "security.istio.io", Version: "v1", Kind: string(w.kind)})
	if err := w.client.Get(ctx, r.NamespacedName, policy); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	before, _, _ := unstructured.NestedSlice(policy.Object, "status", "conditions") // of another form: as if there were none
	after, changed := policyConditions(before, w.findings.Findings(w.kind, r.Namespace, r.Name), policy.GetGeneration(), time.Now())
	if !changed {
		return ctrl.Result{}, nil
	}
	if err := unstructured.SetNestedSlice(policy.Object, after, "status", "conditions"); err != nil {
		return ctrl.Result{}, fmt.Errorf("status of %s: %w", w.kind, err)
	}
	err := w.client.Status().Update(ctx, policy, fieldOwner)
	switch {
	case apierrors.IsConflict(err):
		return ctrl.Result{RequeueAfter: conflictWait}, nil
	case err != nil && !apierrors.IsNotFound(err):
		return ctrl.Result{}, fmt.Errorf("write status of %s: %w", w.kind, err)
	}
	return ctrl.Result{}, nil
}

// policyConditions sets or removes our condition and leaves the others as they are.
func policyConditions(before []any, found []translate.Finding, generation int64, now time.Time) (after []any, changed bool) {
	ours := slices.IndexFunc(before, func(c any) bool {
		m, ok := c.(map[string]any)
		return ok && m["type"] == translate.ConditionAccepted
	})
	i := slices.IndexFunc(found, func(f translate.Finding) bool { return f.Type == translate.ConditionAccepted })
	if i < 0 {
		if ours < 0 {
			return before, false
		}
		return slices.Delete(slices.Clone(before), ours, ours+1), true
	}
	f := found[i]
	condition := map[string]any{
		"type": f.Type, "status": f.Status, "reason": f.Reason, "message": f.Message,
		"observedGeneration": fmt.Sprint(observed(f, generation)), // a number of 64 bits, which JSON takes as text
		"lastTransitionTime": now.UTC().Format(time.RFC3339),
	}
	if ours < 0 {
		return append(slices.Clone(before), condition), true
	}
	was := before[ours].(map[string]any)
	if was["status"] == condition["status"] {
		condition["lastTransitionTime"] = was["lastTransitionTime"]
	}
	same := true
	for k, v := range condition {
		same = same && fmt.Sprint(was[k]) == fmt.Sprint(v)
	}
	if same {
		return before, false
	}
	after = slices.Clone(before)
	after[ours] = condition
	return after, true
}
