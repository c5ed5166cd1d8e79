// SPDX-License-Identifier: Apache-2.0

package world

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func overlayOf(text string) *Overlay {
	return ReduceOverlay("east", &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "o"}, Data: map[string]string{OverlayKey: text}})
}

func TestReduceOverlay(t *testing.T) {
	got := overlayOf(`
autoscaling: {minReplicas: 2, maxReplicas: 8, targetCPU: 1.5}
resources:
  requests: {cpu: 100m, memory: 64Mi}
  limits: {memory: 1Gi}
service:
  type: LoadBalancer
  annotations: {service.example.com/Internal: "true"}
  externalTrafficPolicy: Local
  loadBalancerClass: example.com/lb
  loadBalancerSourceRanges: [192.0.2.0/24, "2001:db8::/32"]
nodeSelector: {node.example.com/role: edge}
tolerations:
- {key: edge, operator: Exists, effect: NoExecute, tolerationSeconds: 30}
- {operator: Exists}
priorityClassName: high
settle: 0s
drain: 1h30m
`)
	want := &Overlay{
		Key: Key{"east", "n", "o"}, MinReplicas: 2, MaxReplicas: 8, TargetCPU: "1.5",
		Requests: map[string]string{"cpu": "100m", "memory": "64Mi"}, Limits: map[string]string{"memory": "1Gi"},
		ServiceType: "LoadBalancer", ServiceAnnotations: map[string]string{"service.example.com/Internal": "true"}, ExternalTrafficPolicy: "Local",
		LoadBalancerClass: "example.com/lb", SourceRanges: []string{"192.0.2.0/24", "2001:db8::/32"},
		NodeSelector:  map[string]string{"node.example.com/role": "edge"},
		Tolerations:   []Toleration{{Key: "edge", Operator: "Exists", Effect: "NoExecute", Seconds: ptr(int64(30))}, {Operator: "Exists"}},
		PriorityClass: "high",
		Settle:        ptr(time.Duration(0)), Drain: ptr(90 * time.Minute),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for text, others := range map[string]bool{"autoscaling: {external: true}": true, "autoscaling: {external: false, minReplicas: 3}": false} {
		if got := overlayOf(text); !got.Usable() || got.ScaledByOthers != others {
			t.Errorf("%s: %+v", text, got)
		}
	}
	if got := overlayOf(""); !got.Usable() {
		t.Errorf("an empty overlay changes nothing, and is not refused: %s", got.Problem)
	}
}

// TestOverlaysThatAreNotUnderstood: the problem names the field, and nothing else is kept.
func TestOverlaysThatAreNotUnderstood(t *testing.T) {
	for text, field := range map[string]string{
		"replicas: 0":                  "replicas",
		"replicas: 100000":             "replicas",
		"replicas: many":               "replicas",
		"replicas: 1.5":                "replicas",
		"replicas: 1\nreplicas: 2":     "replicas",
		"Replicas: 2":                  "Replicas",
		"replicas: 2\nautoscaling: {}": "replicas",
		"autoscaling: {minReplicas: 4, maxReplicas: 2}":         "autoscaling.minReplicas",
		"autoscaling: {targetCPU: fast}":                        "autoscaling.targetCPU",
		"autoscaling: {targetCPU: -1}":                          "autoscaling.targetCPU",
		"autoscaling: {targetCPU: [1]}":                         "quantity",
		"autoscaling: {targetcpu: 1}":                           "targetcpu",
		"autoscaling: {external: true, minReplicas: 1}":         "autoscaling.external",
		"autoscaling: {external: true, targetCPU: 1}":           "autoscaling.external",
		"autoscaling: {external: yes please}":                   "autoscaling.external",
		"replicas: 2\nautoscaling: {external: true}":            "replicas",
		"resources: {requests: {gpu: 1}}":                       "resources.requests.gpu",
		"resources: {limits: {cpu: 0}}":                         "resources.limits.cpu",
		"resources: {requests: {cpu: 2}, limits: {cpu: 1}}":     "resources.requests.cpu",
		"service: {type: ExternalName}":                         "service.type",
		"service: {externalTrafficPolicy: local}":               "service.externalTrafficPolicy",
		"service: {loadBalancerClass: a b}":                     "service.loadBalancerClass",
		"service: {loadBalancerSourceRanges: [192.0.2.1/24]}":   "service.loadBalancerSourceRanges",
		"service: {annotations: {'a b': c}}":                    "service.annotations",
		"service: {annotations: {a: true}}":                     "service.annotations",
		"nodeSelector: {a: 'b c'}":                              "nodeSelector",
		"tolerations: [{operator: Odd}]":                        "tolerations[0].operator",
		"tolerations: [{effect: Odd, key: a}]":                  "tolerations[0].effect",
		"tolerations: [{value: a}]":                             "tolerations[0].key",
		"tolerations: [{key: a, operator: Exists, value: b}]":   "tolerations[0].value",
		"tolerations: [{key: a, tolerationSeconds: 1}]":         "tolerations[0].tolerationSeconds",
		"priorityClassName: A_B":                                "priorityClassName",
		"drain: 10":                                             "drain",
		"drain: 10 minutes":                                     "drain",
		"drain: -1s":                                            "drain",
		"drain: 25h":                                            "drain",
		"settle: soon":                                          "settle",
		"settle: 24h0m1s":                                       "settle",
		"Drain: 1m":                                             "Drain",
		"- a":                                                   OverlayKey,
		"a: [":                                                  OverlayKey,
		"priorityClassName: " + strings.Repeat("a", maxOverlay): OverlayKey,
	} {
		got := overlayOf(text)
		if got.Usable() || !strings.Contains(got.Problem, field) {
			t.Errorf("%q: the problem is %q, which does not name %s", text[:min(len(text), 80)], got.Problem, field)
		}
		if diff := cmp.Diff(&Overlay{Key: got.Key, Problem: got.Problem}, got); diff != "" {
			t.Errorf("%q: something is kept:\n%s", text[:min(len(text), 80)], diff)
		}
	}
	for _, data := range []map[string]string{nil, {"gateway": "replicas: 2"}, {OverlayKey: "replicas: 2", "more": ""}} {
		if got := ReduceOverlay("east", &corev1.ConfigMap{Data: data}); got.Usable() || !strings.Contains(got.Problem, "data.") {
			t.Errorf("%v: the problem is %q", data, got.Problem)
		}
	}
}

// FuzzReduceOverlay: whatever a ConfigMap holds, what is kept of it is within bounds, or it is one problem.
func FuzzReduceOverlay(f *testing.F) {
	f.Add("autoscaling: {minReplicas: 2, maxReplicas: 8, targetCPU: 1.5}\nresources: {requests: {cpu: 1}}")
	f.Add("tolerations: [{operator: Exists}]\nnodeSelector: {a: b}")
	f.Add("a: &a [*a]")
	f.Add("settle: 1s\ndrain: 1h")
	f.Fuzz(func(t *testing.T, text string) {
		o := overlayOf(text)
		if !o.Usable() {
			if diff := cmp.Diff(&Overlay{Key: o.Key, Problem: o.Problem}, o); diff != "" {
				t.Errorf("something is kept:\n%s", diff)
			}
			return
		}
		if o.Replicas < 0 || o.Replicas > maxReplicas || o.MinReplicas < 0 || o.MaxReplicas > maxReplicas || len(o.Tolerations) > maxOverlayEntries {
			t.Errorf("out of bounds: %+v", o)
		}
		for _, d := range []*time.Duration{o.Settle, o.Drain} {
			if d != nil && (*d < 0 || *d > maxEnding) {
				t.Errorf("a pod takes %s to end", *d)
			}
		}
		if o.MinReplicas > 0 && o.MaxReplicas > 0 && o.MinReplicas > o.MaxReplicas {
			t.Errorf("from %d to %d replicas", o.MinReplicas, o.MaxReplicas)
		}
	})
}
