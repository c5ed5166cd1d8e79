// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/isthmus-mesh/isthmus/internal/zds"
)

// annotateCapture makes a pod's annotation say how it is captured; "" removes it. It is what makes the control plane tell others to tunnel to the pod.
func annotateCapture(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod, value string) error {
	return annotate(ctx, client, pod, annotationRedirection, value)
}

// annotateProxy makes the pod of a node proxy say what that proxy said of itself. It is never taken back: a pod's program does not change.
func annotateProxy(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod, proxies []zds.Proxy) error {
	if !slices.Contains(proxies, zds.Proxy{Namespace: pod.Namespace, Name: pod.Name, Confines: true}) {
		return nil
	}
	return annotate(ctx, client, pod, annotationConfines, "true")
}

// annotate makes an annotation of a pod have a value; "" removes it. A pod that is gone, or another one of the same name, is left alone.
func annotate(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod, name, value string) error {
	if pod.Annotations[name] == value {
		return nil
	}
	var v any = value
	if value == "" {
		v = nil
	}
	// The uid makes the patch a conflict when the name has passed to another pod.
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid":         pod.UID,
		"annotations": map[string]any{name: v},
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
