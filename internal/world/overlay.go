// SPDX-License-Identifier: Apache-2.0

package world

import "time"

// Overlay is how what is made for a Gateway shall run, as a ConfigMap says that the Gateway's infrastructure.parametersRef names. Zero values mean: as usual.
type Overlay struct {
	Key
	// Missing says that there is no such ConfigMap, or that it cannot be read; Problem says what is wrong with one that is there, naming the
	// field. With either nothing else is set.
	Missing bool
	Problem string

	// Replicas is a fixed number of pods; 0: a HorizontalPodAutoscaler decides, within MinReplicas and MaxReplicas, so that each pod uses about
	// TargetCPU, or with ScaledByOthers somebody else does, of whom nothing is known.
	Replicas                 int32
	ScaledByOthers           bool
	MinReplicas, MaxReplicas int32
	TargetCPU                string
	// Requests and Limits are quantities by the resource's name.
	Requests, Limits map[string]string

	ServiceType           string
	ServiceAnnotations    map[string]string
	ExternalTrafficPolicy string
	LoadBalancerClass     string
	SourceRanges          []string // whom a load balancer lets in, as CIDRs

	NodeSelector  map[string]string
	Tolerations   []Toleration
	PriorityClass string

	// Settle and Drain are how long a pod that is to end goes on as before, and how long its streams may then go on; nil: as usual.
	Settle, Drain *time.Duration
}

// Toleration is Kubernetes' own.
type Toleration struct {
	Key, Operator, Value, Effect string
	Seconds                      *int64
}

// Ref names the overlay.
func (o *Overlay) Ref() ObjectRef { return ObjectRef{KindOverlay, o.Key} }

// Usable says that the overlay can be applied.
func (o *Overlay) Usable() bool { return o != nil && !o.Missing && o.Problem == "" }
