// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// BenchmarkPod decodes a pod like those of a cluster in use, as it comes and skimmed.
func BenchmarkPod(b *testing.B) {
	pod := &corev1.Pod{TypeMeta: metav1.TypeMeta{Kind: "Pod", APIVersion: "v1"}, ObjectMeta: metav1.ObjectMeta{
		Namespace: "shop", Name: "cart-7f9c6d5b8-abcde", Labels: map[string]string{"app": "cart", "version": "v1", "pod-template-hash": "7f9c6d5b8"},
		ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubelet", FieldsV1: metav1.NewFieldsV1(strings.Repeat("x", 2500))}},
	}}
	pod.Spec.NodeName = "node-1"
	for range 2 {
		c := corev1.Container{Name: "app", Image: "registry.example/team/app:v1"}
		for i := range 12 {
			c.Env = append(c.Env, corev1.EnvVar{Name: fmt.Sprintf("SETTING_%d", i), Value: "https://config.example.internal/value"})
		}
		pod.Spec.Containers = append(pod.Spec.Containers, c)
	}
	pod.Status.Phase, pod.Status.PodIP = corev1.PodRunning, "10.1.2.3"
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}, {Type: corev1.PodScheduled, Status: corev1.ConditionTrue}}
	var whole strings.Builder
	if err := wire.Encode(pod, &whole); err != nil {
		b.Fatal(err)
	}
	text := []byte(whole.String())
	decode := func(in []byte) {
		if _, _, err := wire.Decode(in, nil, nil); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("whole", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			decode(text)
		}
	})
	b.Run("skimmed", func(b *testing.B) {
		b.ReportAllocs()
		var kept []byte
		for b.Loop() {
			kept, _, _ = shapes["/api/v1/pods"].one.object(kept[:0], text)
			decode(kept)
		}
	})
}
