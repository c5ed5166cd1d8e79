// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

// askAgain is how often the API server is asked about a pod of which the watch has not told yet.
const askAgain = 2 * time.Second

// current gives the pod that the runtime means, and its namespace. The watch may be behind the kubelet, so the API server is asked when it does not know
// the pod, or knows another one of that name.
func (p *pods) current(ctx context.Context, key cache.ObjectName, uid string) (*corev1.Pod, *corev1.Namespace, error) {
	fits := func(pod *corev1.Pod) bool { return uid == "" || nodeUID(pod) == uid }
	pod, err := p.pods.Pods(key.Namespace).Get(key.Name)
	behind := err != nil || !fits(pod)
	if behind {
		if pod, err = p.client.CoreV1().Pods(key.Namespace).Get(ctx, key.Name, metav1.GetOptions{}); err != nil {
			return nil, nil, fmt.Errorf("look up the pod: %w", err)
		}
	}
	if !fits(pod) {
		return nil, nil, fmt.Errorf("pod %s has uid %s now, not %s", key, pod.UID, uid)
	}
	namespace, err := p.namespace(ctx, key.Namespace, behind)
	return pod, namespace, err
}

// existing gives the pod of this name that is on this node, or nil, and says whether the watch is behind it. The watch is not believed that a pod of the set is gone, or has another one in its
// place: the runtime, from which the set may have it, hears of pods by itself. Then the API server is asked, and asked again until the watch knows that pod, for it may not tell of the end of one
// that it never told of.
func (p *pods) existing(ctx context.Context, key cache.ObjectName) (pod *corev1.Pod, behind bool, err error) {
	watched, err := p.pods.Pods(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		watched, err = nil, nil
	}
	if err != nil || !slices.ContainsFunc(p.enrolment.named(key.Namespace, key.Name), func(uid string) bool { return watched == nil || uid != string(watched.UID) }) {
		return watched, false, err
	}
	pod, err = p.client.CoreV1().Pods(key.Namespace).Get(ctx, key.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, false, nil
	case err != nil:
		return nil, false, fmt.Errorf("see whether the pod is gone: %w", err)
	case pod.Spec.NodeName != p.node: // its successor, elsewhere
		return nil, false, nil
	}
	if behind = watched == nil || watched.UID != pod.UID; behind {
		p.queue.AddAfter(key, askAgain)
	}
	return pod, behind, nil
}

// namespace gives a namespace as the watch knows it, or as the API server does if the watch does not know it or is behind.
func (p *pods) namespace(ctx context.Context, name string, behind bool) (*corev1.Namespace, error) {
	if !behind {
		if n, err := p.namespaces.Get(name); !apierrors.IsNotFound(err) {
			return n, err
		}
	}
	n, err := p.client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("look up the pod's namespace: %w", err)
	}
	return n, nil
}
