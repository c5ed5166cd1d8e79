// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// annotate makes a pod's annotation say how it is captured; "" removes it. It is what makes the control plane tell others to tunnel to
// the pod. A pod that is gone, or another one of the same name, is left alone.
func annotate(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod, value string) error {
	if pod.Annotations[annotationRedirection] == value {
		return nil
	}
	var v any = value
	if value == "" {
		v = nil
	}
	// The uid makes the patch a conflict when the name has passed to another pod.
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid":         pod.UID,
		"annotations": map[string]any{annotationRedirection: v},
	}})
	if err != nil {
		return err
	}
	_, err = client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("annotate pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return nil
}

// redirection is what a pod's annotation should say. A pod that once was served keeps saying so while the proxy or the agent is being
// replaced: others go on tunnelling to it, and the proxy, which outlives its connection to the agent, goes on answering.
func redirection(now string, isCaptured, isServed bool) string {
	switch {
	case !isCaptured:
		return ""
	case isServed, now == redirectionEnabled:
		return redirectionEnabled
	}
	return redirectionPending
}
