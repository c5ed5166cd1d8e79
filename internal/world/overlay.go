// SPDX-License-Identifier: Apache-2.0

package world

// Overlay is how what is made for a Gateway shall run, as a ConfigMap says that the Gateway's infrastructure.parametersRef names. Zero values mean: as usual.
type Overlay struct {
	Key
	// Missing says that there is no such ConfigMap, or that it cannot be read; Problem says what is wrong with one that is there, naming the
	// field. With either nothing else is set.
	Missing bool
	Problem string

	// Replicas is a fixed number of pods; 0: a HorizontalPodAutoscaler decides, within MinReplicas and MaxReplicas, so that each pod uses about
	// TargetCPU.
	Replicas                 int32
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
