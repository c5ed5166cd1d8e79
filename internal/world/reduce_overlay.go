// SPDX-License-Identifier: Apache-2.0

package world

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

const (
	// OverlayKey is the one key of a ConfigMap that is read as an overlay.
	OverlayKey = "gateway.yaml"
	// maxOverlay bounds its text, in bytes; a full one has less than 2 KiB.
	maxOverlay = 64 << 10
	// maxReplicas bounds what an overlay may ask for: a slip of the finger must not fill a cluster.
	maxReplicas = 1000
	// maxOverlayEntries bounds each of its lists and maps.
	maxOverlayEntries = 64
	// maxEnding bounds how long a pod may take for each part of its end: one that is forgotten holds its node's resources for as long.
	maxEnding = 24 * time.Hour
)

// overlayFile is the text of an overlay.
type overlayFile struct {
	Replicas    *int32 `json:"replicas"`
	Autoscaling *struct {
		MinReplicas *int32   `json:"minReplicas"`
		MaxReplicas *int32   `json:"maxReplicas"`
		TargetCPU   quantity `json:"targetCPU"`
		External    bool     `json:"external"`
	} `json:"autoscaling"`
	Resources struct {
		Requests map[string]quantity `json:"requests"`
		Limits   map[string]quantity `json:"limits"`
	} `json:"resources"`
	Service struct {
		Type                     string            `json:"type"`
		Annotations              map[string]string `json:"annotations"`
		ExternalTrafficPolicy    string            `json:"externalTrafficPolicy"`
		LoadBalancerClass        string            `json:"loadBalancerClass"`
		LoadBalancerSourceRanges []string          `json:"loadBalancerSourceRanges"`
	} `json:"service"`
	NodeSelector map[string]string `json:"nodeSelector"`
	Tolerations  []struct {
		Key      string `json:"key"`
		Operator string `json:"operator"`
		Value    string `json:"value"`
		Effect   string `json:"effect"`
		Seconds  *int64 `json:"tolerationSeconds"`
	} `json:"tolerations"`
	PriorityClassName string `json:"priorityClassName"`
	Settle            string `json:"settle"`
	Drain             string `json:"drain"`
}

// quantity takes a number as well as a string, as Kubernetes does.
type quantity string

// UnmarshalJSON implements json.Unmarshaler.
func (q *quantity) UnmarshalJSON(data []byte) error {
	var text string
	if json.Unmarshal(data, &text) != nil {
		var number json.Number
		if err := json.Unmarshal(data, &number); err != nil {
			return fmt.Errorf("%s is no quantity", data)
		}
		text = number.String()
	}
	*q = quantity(text)
	return nil
}

// ReduceOverlay reads a ConfigMap as an overlay, strictly: what is not understood is a problem, and then nothing of it counts.
func ReduceOverlay(c Cluster, m *corev1.ConfigMap) *Overlay {
	out := &Overlay{Key: Key{c, m.Namespace, m.Name}}
	if err := out.read(m); err != nil {
		return &Overlay{Key: out.Key, Problem: err.Error()}
	}
	return out
}

// MissingOverlay is about a ConfigMap that is not there.
func MissingOverlay(c Cluster, namespace, name string) *Overlay {
	return &Overlay{Key: Key{c, namespace, name}, Missing: true}
}

func (o *Overlay) read(m *corev1.ConfigMap) error {
	for _, key := range slices.Concat(slices.Sorted(maps.Keys(m.Data)), slices.Sorted(maps.Keys(m.BinaryData))) {
		if key != OverlayKey {
			return fmt.Errorf("data.%s is unknown, only %s is read", printable(key), OverlayKey)
		}
	}
	text, ok := m.Data[OverlayKey]
	switch {
	case !ok:
		return fmt.Errorf("data.%s is missing", OverlayKey)
	case len(text) > maxOverlay:
		return fmt.Errorf("data.%s has %d bytes, more than %d", OverlayKey, len(text), maxOverlay)
	}
	f, err := parseOverlay(text)
	if err != nil {
		return fmt.Errorf("data.%s: %s", OverlayKey, plainly(err))
	}
	for _, part := range []func(*overlayFile) error{o.readReplicas, o.readResources, o.readService, o.readPlace, o.readEnd} {
		if err := part(f); err != nil {
			return err
		}
	}
	return nil
}

// parseOverlay takes names as they are written, and no value of another type than the field's.
func parseOverlay(text string) (*overlayFile, error) {
	asJSON, err := yaml.YAMLToJSONStrict([]byte(text))
	if err != nil {
		return nil, err
	}
	var f overlayFile
	strict, err := kjson.UnmarshalStrict(asJSON, &f)
	if err != nil {
		return nil, err
	}
	return &f, errors.Join(strict...)
}

// plainly takes the decoder's wrapping off an error.
func plainly(err error) string {
	text := err.Error()
	for _, wrapping := range []string{"error converting YAML to JSON: ", "error unmarshaling JSON: ", "while decoding JSON: ", "json: "} {
		text = strings.TrimPrefix(text, wrapping)
	}
	return strings.NewReplacer("Go struct field overlayFile.", "field ", "Go struct field .", "field ", " of type int32", ", which is a whole number", "\n", " ").Replace(text)
}

func (o *Overlay) readReplicas(f *overlayFile) error {
	bound := func(field string, v *int32, into *int32) error {
		if v == nil {
			return nil
		}
		if *into = *v; *v < 1 || *v > maxReplicas {
			return fmt.Errorf("%s: %d is not between 1 and %d", field, *v, maxReplicas)
		}
		return nil
	}
	if f.Autoscaling == nil {
		return bound("replicas", f.Replicas, &o.Replicas)
	}
	if f.Replicas != nil {
		return errors.New("replicas: it fixes the number of pods, which autoscaling is to decide: give one of them")
	}
	a := f.Autoscaling
	if o.ScaledByOthers = a.External; a.External && (a.MinReplicas != nil || a.MaxReplicas != nil || a.TargetCPU != "") {
		return errors.New("autoscaling.external: it leaves the number of pods to somebody else, so minReplicas, maxReplicas and targetCPU would say nothing")
	}
	if err := errors.Join(bound("autoscaling.minReplicas", a.MinReplicas, &o.MinReplicas), bound("autoscaling.maxReplicas", a.MaxReplicas, &o.MaxReplicas)); err != nil {
		return err
	}
	if o.MinReplicas > 0 && o.MaxReplicas > 0 && o.MinReplicas > o.MaxReplicas {
		return fmt.Errorf("autoscaling.minReplicas: %d is more than maxReplicas, %d", o.MinReplicas, o.MaxReplicas)
	}
	if a.TargetCPU == "" {
		return nil
	}
	o.TargetCPU = string(a.TargetCPU)
	_, err := positive("autoscaling.targetCPU", o.TargetCPU)
	return err
}

func positive(field, text string) (resource.Quantity, error) {
	q, err := resource.ParseQuantity(text)
	if err != nil {
		return q, fmt.Errorf("%s: %s is no quantity", field, quoted(text))
	}
	if q.Sign() <= 0 {
		return q, fmt.Errorf("%s: %s is not more than nothing", field, quoted(text))
	}
	return q, nil
}

func (o *Overlay) readResources(f *overlayFile) error {
	read := func(at string, in map[string]quantity) (map[string]string, map[string]resource.Quantity, error) {
		if len(in) == 0 {
			return nil, nil, nil
		}
		out, parsed := make(map[string]string, len(in)), make(map[string]resource.Quantity, len(in))
		for _, name := range slices.Sorted(maps.Keys(in)) {
			switch corev1.ResourceName(name) {
			case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
			default:
				return nil, nil, fmt.Errorf("%s.%s: only cpu, memory and ephemeral-storage are known", at, printable(name))
			}
			q, err := positive(at+"."+name, string(in[name]))
			if err != nil {
				return nil, nil, err
			}
			out[name], parsed[name] = string(in[name]), q
		}
		return out, parsed, nil
	}
	var requests, limits map[string]resource.Quantity
	var err error
	if o.Requests, requests, err = read("resources.requests", f.Resources.Requests); err != nil {
		return err
	}
	if o.Limits, limits, err = read("resources.limits", f.Resources.Limits); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(requests)) {
		if limit, ok := limits[name]; ok && limit.Cmp(requests[name]) < 0 {
			return fmt.Errorf("resources.requests.%s: %s is more than the limit, %s", name, o.Requests[name], o.Limits[name])
		}
	}
	return nil
}

func (o *Overlay) readService(f *overlayFile) error {
	s := f.Service
	if err := oneOf("service.type", s.Type, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeNodePort, corev1.ServiceTypeClusterIP); err != nil {
		return err
	}
	if err := oneOf("service.externalTrafficPolicy", s.ExternalTrafficPolicy, corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal); err != nil {
		return err
	}
	if s.LoadBalancerClass != "" && !isQualifiedName(s.LoadBalancerClass) {
		return fmt.Errorf("service.loadBalancerClass: %s is no name of a class", quoted(s.LoadBalancerClass))
	}
	if len(s.Annotations) > maxOverlayEntries || len(s.LoadBalancerSourceRanges) > maxOverlayEntries {
		return fmt.Errorf("service: annotations and loadBalancerSourceRanges may have %d entries", maxOverlayEntries)
	}
	for _, k := range slices.Sorted(maps.Keys(s.Annotations)) {
		if !isQualifiedName(strings.ToLower(k)) {
			return fmt.Errorf("service.annotations: %s is no name of an annotation", quoted(k))
		}
	}
	for _, cidr := range s.LoadBalancerSourceRanges {
		if p, err := netip.ParsePrefix(cidr); err != nil || p != p.Masked() {
			return fmt.Errorf("service.loadBalancerSourceRanges: %s is no range of addresses, such as 192.0.2.0/24", quoted(cidr))
		}
	}
	o.ServiceType, o.ServiceAnnotations, o.ExternalTrafficPolicy = s.Type, s.Annotations, s.ExternalTrafficPolicy
	o.LoadBalancerClass, o.SourceRanges = s.LoadBalancerClass, s.LoadBalancerSourceRanges
	return nil
}

func oneOf[T ~string](field, value string, choices ...T) error {
	if value == "" || slices.Contains(choices, T(value)) {
		return nil
	}
	names := make([]string, 0, len(choices))
	for _, c := range choices {
		names = append(names, string(c))
	}
	return fmt.Errorf("%s: %s is none of %s", field, quoted(value), strings.Join(names, ", "))
}

func (o *Overlay) readPlace(f *overlayFile) error {
	if len(f.NodeSelector) > maxOverlayEntries || len(f.Tolerations) > maxOverlayEntries {
		return fmt.Errorf("nodeSelector and tolerations may have %d entries", maxOverlayEntries)
	}
	for _, k := range slices.Sorted(maps.Keys(f.NodeSelector)) {
		if v := f.NodeSelector[k]; !isQualifiedName(k) || !isLabelValue(v) {
			return fmt.Errorf("nodeSelector: %s=%s is no label", quoted(k), quoted(v))
		}
	}
	for i, t := range f.Tolerations {
		at := fmt.Sprintf("tolerations[%d]", i)
		if err := oneOf(at+".operator", t.Operator, corev1.TolerationOpEqual, corev1.TolerationOpExists); err != nil {
			return err
		}
		if err := oneOf(at+".effect", t.Effect, corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute); err != nil {
			return err
		}
		exists := t.Operator == string(corev1.TolerationOpExists)
		switch {
		case t.Key != "" && !isQualifiedName(t.Key):
			return fmt.Errorf("%s.key: %s is no name of a taint", at, quoted(t.Key))
		case t.Key == "" && !exists:
			return fmt.Errorf("%s.key: it may be missing only with operator Exists", at)
		case t.Value != "" && (exists || !isLabelValue(t.Value)):
			return fmt.Errorf("%s.value: %s does not fit its operator, or is no value of a taint", at, quoted(t.Value))
		case t.Seconds != nil && t.Effect != string(corev1.TaintEffectNoExecute):
			return fmt.Errorf("%s.tolerationSeconds: it goes with effect NoExecute only", at)
		}
		o.Tolerations = append(o.Tolerations, Toleration{t.Key, t.Operator, t.Value, t.Effect, t.Seconds})
	}
	if f.PriorityClassName != "" && !isSubdomain(f.PriorityClassName) {
		return fmt.Errorf("priorityClassName: %s is no name of a class", quoted(f.PriorityClassName))
	}
	if strings.HasPrefix(f.PriorityClassName, "system-") { // Kubernetes' own, which push out others' pods: not for whoever may write a ConfigMap
		return fmt.Errorf("priorityClassName: %s is for parts of the cluster alone", quoted(f.PriorityClassName))
	}
	o.NodeSelector, o.PriorityClass = f.NodeSelector, f.PriorityClassName
	return nil
}

// readEnd reads how a pod ends, which is in the words of Go and of the program's flags, such as 90s and 1h30m.
func (o *Overlay) readEnd(f *overlayFile) (err error) {
	read := func(field, text string) (*time.Duration, error) {
		if text == "" {
			return nil, nil
		}
		d, err := time.ParseDuration(text)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s: %s is no duration, such as 90s or 1h30m", field, quoted(text))
		case d < 0 || d > maxEnding:
			return nil, fmt.Errorf("%s: %s is not between 0s and %s", field, quoted(text), maxEnding)
		}
		return &d, nil
	}
	if o.Settle, err = read("settle", f.Settle); err != nil {
		return err
	}
	o.Drain, err = read("drain", f.Drain)
	return err
}
