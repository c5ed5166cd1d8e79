// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	autoscalingv2ac "k8s.io/client-go/applyconfigurations/autoscaling/v2"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

func TestProvisionedObjectsStayInBounds(t *testing.T) {
	plan := &translate.GatewayPlan{
		Key: world.Key{Cluster: "east", Namespace: "n", Name: "g"}, Class: "eastwest", Name: "g", ServiceAccount: "theirs", ServiceType: "ClusterIP",
		InfraLabels: map[string]string{"a": "b", gatewayNameLabel: "stolen"}, InfraAnnotations: map[string]string{"gateway.networking.k8s.io/x": "y", "deployment.kubernetes.io/revision": "77", "c": "d"},
		Addresses: []string{"10.96.0.9"},
	}
	objects := provision(plan, ProvisionSettings{Image: "i", Controller: "c:15012", Traces: "http://collector:4317", Config: world.Config{LocalCluster: "east"}}, running{})
	if len(objects) != 4 {
		t.Fatalf("%d objects: the ServiceAccount is the user's", len(objects))
	}
	text, err := yaml.Marshal(objects)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"clusterIP: 10.96.0.9", "serviceAccountName: theirs", "gateway-name: g", "a: b", "c: d", "readOnlyRootFilesystem: true", "runAsNonRoot: true", "--otlp-endpoint=http://collector:4317"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	for _, not := range []string{"stolen", "gateway.networking.k8s.io/x", "deployment.kubernetes.io/"} {
		if strings.Contains(string(text), not) {
			t.Errorf("%q is in\n%s", not, text)
		}
	}
}

// TestPoliciesKnowTheLabelsOfGatewayPods: what translation takes for the labels of a Gateway's pods, by which policies select them, is on them.
func TestPoliciesKnowTheLabelsOfGatewayPods(t *testing.T) {
	plan := &translate.GatewayPlan{
		Key: world.Key{Cluster: "east", Namespace: "n", Name: "g"}, Class: "eastwest", Network: "net", Name: "g", ServiceAccount: "g", ServiceType: "ClusterIP",
		InfraLabels: map[string]string{"team": "net", gatewayNameLabel: "stolen", translate.LabelManagedBy: "somebody", redirectionPrefix + "x": "y"},
	}
	longest := strings.Repeat("class.", 42) + "c"
	if got := translate.ClassLabel(longest); len(validation.IsValidLabelValue(got)) > 0 || got == translate.ClassLabel(longest[1:]) {
		t.Errorf("%q is no label for a class of %d characters, or is that of another one", got, len(longest))
	}
	plan.Class = longest
	deployments := 0
	for _, o := range provision(plan, ProvisionSettings{Image: "i", Controller: "c:15012", Config: world.Config{LocalCluster: "east"}}, running{}) {
		d, ok := o.(*appsv1ac.DeploymentApplyConfiguration)
		if !ok {
			continue
		}
		deployments++
		want := translate.GatewayPodLabels("g", longest, "net", plan.InfraLabels)
		if len(want) < 7 {
			t.Errorf("only %v", want)
		}
		for k, v := range want {
			if got := d.Spec.Template.Labels[k]; got != v {
				t.Errorf("label %s of the pods is %q, and policies take it for %q", k, got, v)
			}
		}
	}
	if deployments != 1 {
		t.Errorf("%d deployments", deployments)
	}
}

// TestGatewayPodsHaveTheLeastRights: everything that the restricted level of Kubernetes' pod security asks for, and what goes beyond.
func TestGatewayPodsHaveTheLeastRights(t *testing.T) {
	pod := deploymentOf(t, plain(), running{}).Spec.Template.Spec
	c := pod.Containers[0]
	for what, holds := range map[string]bool{
		"runs as no root":                 *pod.SecurityContext.RunAsNonRoot && *pod.SecurityContext.RunAsUser > 0 && *pod.SecurityContext.RunAsGroup > 0,
		"has the runtime's seccomp":       *pod.SecurityContext.SeccompProfile.Type == corev1.SeccompProfileTypeRuntimeDefault,
		"gains no privilege":              !*c.SecurityContext.AllowPrivilegeEscalation,
		"writes no file":                  *c.SecurityContext.ReadOnlyRootFilesystem,
		"has no capability":               len(c.SecurityContext.Capabilities.Add) == 0 && slices.Equal(c.SecurityContext.Capabilities.Drop, []corev1.Capability{"ALL"}),
		"gets no API token":               !*pod.AutomountServiceAccountToken,
		"learns of no Services":           !*pod.EnableServiceLinks,
		"is in no namespace of the host":  pod.HostNetwork == nil && pod.HostPID == nil && pod.HostIPC == nil,
		"asks for CPU and memory":         !c.Resources.Requests.Cpu().IsZero() && !c.Resources.Requests.Memory().IsZero(),
		"is ready when it says so itself": *c.ReadinessProbe.HTTPGet.Path == "/healthz/ready?settling" && c.ReadinessProbe.HTTPGet.Port.IntValue() == 15021,
		"has time to drain":               *pod.TerminationGracePeriodSeconds == 630,
		"is one container":                len(pod.Containers) == 1 && len(pod.InitContainers) == 0,
	} {
		if !holds {
			t.Errorf("not so: %s", what)
		}
	}
	tokens := 0
	for _, v := range pod.Volumes {
		if v.HostPath != nil || v.Secret != nil {
			t.Errorf("volume %s is of the host or a Secret", *v.Name)
		}
		if v.EmptyDir != nil && *v.EmptyDir.Medium != corev1.StorageMediumMemory {
			t.Errorf("volume %s is on a disk: what is kept there has keys in it", *v.Name)
		}
		if v.Projected != nil {
			for _, s := range v.Projected.Sources {
				if tokens++; *s.ServiceAccountToken.Audience != tokenAudience {
					t.Errorf("a token is for the audience %q", *s.ServiceAccountToken.Audience)
				}
			}
		}
	}
	if tokens != 1 {
		t.Errorf("%d tokens", tokens)
	}
	for _, p := range pod.TopologySpreadConstraints {
		if *p.WhenUnsatisfiable != corev1.ScheduleAnyway {
			t.Errorf("a cluster with one %s could not have the usual number of pods", *p.TopologyKey)
		}
	}
	if len(pod.TopologySpreadConstraints) != 2 {
		t.Errorf("%d topologies to spread over", len(pod.TopologySpreadConstraints))
	}
}

// TestGatewayPodsAreNotKilledBeforeTheyEnd: whatever an overlay says of how a pod ends, its process is told, and has the time.
func TestGatewayPodsAreNotKilledBeforeTheyEnd(t *testing.T) {
	for _, tc := range []struct {
		overlay *world.Overlay
		args    []string
		grace   int64
	}{
		{nil, []string{"--settle=5s", "--drain=10m0s"}, 630},
		{&world.Overlay{Drain: ptr.To(2 * time.Hour)}, []string{"--settle=5s", "--drain=2h0m0s"}, 7230},
		{&world.Overlay{Settle: ptr.To(20 * time.Second)}, []string{"--settle=20s", "--drain=10m0s"}, 645},
		{&world.Overlay{Settle: ptr.To(time.Duration(0)), Drain: ptr.To(time.Duration(0))}, []string{"--settle=0s", "--drain=0s"}, 25},
		{&world.Overlay{Settle: ptr.To(1500 * time.Millisecond), Drain: ptr.To(time.Second)}, []string{"--settle=1.5s", "--drain=1s"}, 28},
		{&world.Overlay{Drain: ptr.To(time.Hour), Problem: "odd"}, []string{"--settle=5s", "--drain=10m0s"}, 630},
	} {
		plan := plain()
		plan.Overlay = tc.overlay
		pod := deploymentOf(t, plan, running{}).Spec.Template.Spec
		if *pod.TerminationGracePeriodSeconds != tc.grace {
			t.Errorf("%v: killed after %d s, want %d", tc.args, *pod.TerminationGracePeriodSeconds, tc.grace)
		}
		for _, want := range tc.args {
			if !slices.Contains(pod.Containers[0].Args, want) {
				t.Errorf("%s is none of %v", want, pod.Containers[0].Args)
			}
		}
	}
}

func plain() *translate.GatewayPlan {
	return &translate.GatewayPlan{
		Key: world.Key{Cluster: "east", Namespace: "n", Name: "g"}, Class: "eastwest", Name: "g", ServiceAccount: "g", ServiceType: "LoadBalancer",
		Listeners: []mesh.Listener{{Name: "mesh", Port: 15008, Bind: 15008, Protocol: mesh.ListenerHBONE}},
	}
}

func objectsOf[T any](plan *translate.GatewayPlan, now running) []T {
	var out []T
	for _, o := range provision(plan, ProvisionSettings{Image: "i", Controller: "c:15012", Config: world.Config{LocalCluster: "east"}}, now) {
		if is, ok := o.(T); ok {
			out = append(out, is)
		}
	}
	return out
}

func deploymentOf(t *testing.T, plan *translate.GatewayPlan, now running) *appsv1ac.DeploymentApplyConfiguration {
	t.Helper()
	all := objectsOf[*appsv1ac.DeploymentApplyConfiguration](plan, now)
	if len(all) != 1 {
		t.Fatalf("%d deployments", len(all))
	}
	return all[0]
}

// TestWhoDecidesHowManyPods: the autoscaler does, unless the overlay does, and the Deployment is applied with what the autoscaler said last, as
// long as that is still so.
func TestWhoDecidesHowManyPods(t *testing.T) {
	for _, tc := range []struct {
		what        string
		overlay     *world.Overlay
		now         running
		pods        int32
		least, most int32 // of the autoscaler; 0: there is none
		version     string
	}{
		{"new", nil, running{}, 2, 2, 10, ""},
		{"grown", nil, running{replicas: 7, version: "41"}, 7, 2, 10, "41"},
		{"scaled to nothing by somebody", nil, running{replicas: 0, version: "41"}, 2, 2, 10, "41"},
		{"beyond its bounds", &world.Overlay{MaxReplicas: 4}, running{replicas: 7, version: "41"}, 4, 2, 4, "41"},
		{"one at most", &world.Overlay{MaxReplicas: 1}, running{replicas: 2, version: "41"}, 1, 1, 1, "41"},
		{"many at least", &world.Overlay{MinReplicas: 20}, running{replicas: 2, version: "41"}, 20, 20, 20, "41"},
		{"scaled by somebody else's", nil, running{replicas: 17, version: "41", scaler: true}, 17, 0, 0, "41"},
		{"scaled by somebody else's to one", nil, running{replicas: 1, version: "41", scaler: true}, 1, 0, 0, "41"},
		{"scaled by somebody else's to nothing", nil, running{replicas: 0, version: "41", scaler: true}, 0, 0, 0, "41"},
		{"to be scaled by somebody else's", nil, running{scaler: true}, 2, 0, 0, ""},
		{"to be scaled by others", &world.Overlay{ScaledByOthers: true}, running{}, 2, 0, 0, ""},
		{"scaled by others", &world.Overlay{ScaledByOthers: true}, running{replicas: 40, version: "41"}, 40, 0, 0, "41"},
		{"scaled by others to nothing", &world.Overlay{ScaledByOthers: true}, running{replicas: 0, version: "41"}, 0, 0, 0, "41"},
		{"scaled by others, and by somebody's of our name", &world.Overlay{ScaledByOthers: true}, running{replicas: 1, version: "41", scaler: true}, 1, 0, 0, "41"},
		{"fixed beside somebody else's", &world.Overlay{Replicas: 3}, running{replicas: 7, version: "41", scaler: true}, 3, 0, 0, ""},
		{"fixed", &world.Overlay{Replicas: 3}, running{replicas: 7, version: "41"}, 3, 0, 0, ""},
		{"an overlay that is not understood", &world.Overlay{Replicas: 3, Problem: "odd"}, running{}, 2, 2, 10, ""},
	} {
		plan := plain()
		plan.Overlay = tc.overlay
		d := deploymentOf(t, plan, tc.now)
		if *d.Spec.Replicas != tc.pods {
			t.Errorf("%s: %d pods, want %d", tc.what, *d.Spec.Replicas, tc.pods)
		}
		version := ""
		if d.ResourceVersion != nil {
			version = *d.ResourceVersion
		}
		if version != tc.version {
			t.Errorf("%s: it is applied to version %q, want %q", tc.what, version, tc.version)
		}
		scalers := objectsOf[*autoscalingv2ac.HorizontalPodAutoscalerApplyConfiguration](plan, tc.now)
		if tc.least == 0 && len(scalers) == 0 {
			continue
		}
		if len(scalers) != 1 || *scalers[0].Spec.MinReplicas != tc.least || *scalers[0].Spec.MaxReplicas != tc.most {
			t.Errorf("%s: %d autoscalers, want one with %d to %d", tc.what, len(scalers), tc.least, tc.most)
		}
	}
}

// TestAddressesOfBothFamilies: a Service has both where the cluster has both, and those that are asked for.
func TestAddressesOfBothFamilies(t *testing.T) {
	for _, tc := range []struct {
		kind      string
		has       []string // the Service
		addresses []string
		ip, lb    string // "": not set
		ips       []string
	}{
		{"LoadBalancer", nil, nil, "", "", nil},
		{"LoadBalancer", nil, []string{"2001:db8::1"}, "", "2001:db8::1", nil},
		{"ClusterIP", nil, []string{"10.96.0.9"}, "10.96.0.9", "", nil},
		{"ClusterIP", nil, []string{"fd00::9", "10.96.0.9"}, "fd00::9", "", []string{"fd00::9", "10.96.0.9"}},
		{"NodePort", nil, []string{"192.0.2.1"}, "", "", nil},
		// It has one of each family, and to ask for more has all of it refused.
		{"ClusterIP", nil, []string{"10.96.0.9", "10.96.0.10"}, "10.96.0.9", "", nil},
		{"ClusterIP", nil, []string{"10.96.0.9", "10.96.0.10", "fd00::9", "fd00::10"}, "10.96.0.9", "", []string{"10.96.0.9", "fd00::9"}},
		// What a Service has does not change, and to ask for something else has all of it refused.
		{"ClusterIP", []string{"10.96.0.8"}, []string{"10.96.0.9"}, "", "", nil},
		{"ClusterIP", []string{"10.96.0.9"}, []string{"10.96.0.9"}, "10.96.0.9", "", nil},
		{"ClusterIP", []string{"10.96.0.9"}, []string{"fd00::9", "10.96.0.9"}, "10.96.0.9", "", []string{"10.96.0.9", "fd00::9"}},
		{"ClusterIP", []string{"10.96.0.9", "fd00::8"}, []string{"fd00::9", "10.96.0.9"}, "10.96.0.9", "", nil},
		{"ClusterIP", []string{"10.96.0.9", "fd00::9"}, []string{"fd00::9", "10.96.0.9"}, "10.96.0.9", "", []string{"10.96.0.9", "fd00::9"}},
		{"ClusterIP", []string{"10.96.0.8", "fd00::9"}, []string{"fd00::9", "10.96.0.9"}, "", "", nil},
	} {
		plan := plain()
		plan.ServiceType, plan.Addresses = tc.kind, tc.addresses
		services := objectsOf[*corev1ac.ServiceApplyConfiguration](plan, running{clusterIPs: tc.has})
		if len(services) != 1 {
			t.Fatalf("%d Services", len(services))
		}
		spec := services[0].Spec
		if *spec.IPFamilyPolicy != corev1.IPFamilyPolicyPreferDualStack {
			t.Errorf("%s: the policy for families is %s", tc.kind, *spec.IPFamilyPolicy)
		}
		if ip, lb := ptr.Deref(spec.ClusterIP, ""), ptr.Deref(spec.LoadBalancerIP, ""); ip != tc.ip || lb != tc.lb || !slices.Equal(spec.ClusterIPs, tc.ips) {
			t.Errorf("%s of %v with %v: %q, %v, %q", tc.kind, tc.has, tc.addresses, ip, spec.ClusterIPs, lb)
		}
	}
}

// TestOverlayReachesTheObjects: every field of an overlay is somewhere.
func TestOverlayReachesTheObjects(t *testing.T) {
	seconds := int64(30)
	plan := plain()
	plan.InfraAnnotations = map[string]string{"both": "of the Gateway", "a": "b"}
	plan.Overlay = &world.Overlay{
		MinReplicas: 3, MaxReplicas: 5, TargetCPU: "1500m", Requests: map[string]string{"cpu": "250m"}, Limits: map[string]string{"memory": "32Mi"},
		ServiceAnnotations: map[string]string{"both": "of the overlay", "lb.example.com/internal": "true", reservedPrefix + "x": "stolen"}, ExternalTrafficPolicy: "Local",
		LoadBalancerClass: "example.com/lb", SourceRanges: []string{"192.0.2.0/24"}, NodeSelector: map[string]string{"disk": "ssd"},
		Tolerations: []world.Toleration{{Key: "edge", Operator: "Exists", Effect: "NoExecute", Seconds: &seconds}}, PriorityClass: "high",
	}
	text, err := yaml.Marshal(provision(plan, ProvisionSettings{Image: "i", Controller: "c:15012", Config: world.Config{LocalCluster: "east"}}, running{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"minReplicas: 3", "maxReplicas: 5", "averageValue: 1500m", "cpu: 250m", "both: of the overlay", "lb.example.com/internal: \"true\"", "externalTrafficPolicy: Local",
		"loadBalancerClass: example.com/lb", "- 192.0.2.0/24", "disk: ssd", "key: edge", "tolerationSeconds: 30", "priorityClassName: high", "replicas: 3",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if strings.Contains(string(text), "stolen") || strings.Contains(string(text), "memory: 64Mi") {
		t.Errorf("something is there that may not be:\n%s", text)
	}
	if strings.Count(string(text), "of the overlay") != 1 {
		t.Error("annotations for the Service are on others")
	}
}
