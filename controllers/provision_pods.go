// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"maps"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

const (
	// gatewaySettle and gatewayDrain are how long a pod that was told to end goes on as before, and running connections after that, if nobody says
	// otherwise (design, part 2, promise 5). gatewayEnding is what the process may need beside, before it is killed.
	gatewaySettle = 5 * time.Second
	gatewayDrain  = 10 * time.Minute
	gatewayEnding = 25 * time.Second
	// gatewayState is where a gateway keeps its configuration and its certificates, for as long as its pod lives: over a restart of its container while no
	// controller answers. In memory, for there are keys among them. The room is for two configurations, the new one and the one that it replaces, of
	// 100,000 workloads (30 MiB each) and of a Gateway with as many routes, certificates and CAs as it may be told of (48, 16 and 64 MiB).
	gatewayState     = "/var/run/isthmus"
	gatewayStateRoom = "320Mi"
	// gatewayUser is whom a gateway's process runs as.
	gatewayUser = 65532
)

func (p provisioner) deployment(now running) *appsv1ac.DeploymentApplyConfiguration {
	labels := p.labels()
	podLabels := maps.Clone(labels)
	podLabels["istio.io/dataplane-mode"] = "none" // it ends tunnels itself
	if p.plan.Network != "" {
		podLabels[networkLabel] = p.plan.Network
	}
	pod := corev1ac.PodSpec().
		WithServiceAccountName(p.plan.ServiceAccount).
		WithAutomountServiceAccountToken(false).
		WithTerminationGracePeriodSeconds(p.grace()).
		WithSecurityContext(corev1ac.PodSecurityContext().
			WithRunAsNonRoot(true).WithRunAsUser(gatewayUser).WithRunAsGroup(gatewayUser).WithFSGroup(gatewayUser).
			WithSeccompProfile(corev1ac.SeccompProfile().WithType(corev1.SeccompProfileTypeRuntimeDefault))).
		WithEnableServiceLinks(false).
		WithTopologySpreadConstraints(p.spread(corev1.LabelTopologyZone), p.spread(corev1.LabelHostname)).
		WithContainers(p.container()).
		WithVolumes(
			corev1ac.Volume().WithName("root-cert").WithConfigMap(corev1ac.ConfigMapVolumeSource().WithName(rootCertName)),
			corev1ac.Volume().WithName("token").WithProjected(corev1ac.ProjectedVolumeSource().WithSources(
				corev1ac.VolumeProjection().WithServiceAccountToken(corev1ac.ServiceAccountTokenProjection().
					WithPath("istio-token").WithAudience(tokenAudience).WithExpirationSeconds(43200)))),
			corev1ac.Volume().WithName("state").WithEmptyDir(corev1ac.EmptyDirVolumeSource().
				WithMedium(corev1.StorageMediumMemory).WithSizeLimit(resource.MustParse(gatewayStateRoom))),
		)
	if len(p.overlay.NodeSelector) > 0 {
		pod.WithNodeSelector(p.overlay.NodeSelector)
	}
	for _, t := range p.overlay.Tolerations {
		pod.WithTolerations(toleration(t))
	}
	if p.overlay.PriorityClass != "" {
		pod.WithPriorityClassName(p.overlay.PriorityClass)
	}
	d := appsv1ac.Deployment(p.name, p.namespace).
		WithLabels(labels).WithAnnotations(unreserved(p.plan.InfraAnnotations)).WithOwnerReferences(p.owner()).
		WithSpec(appsv1ac.DeploymentSpec().
			WithReplicas(p.replicas(now)).
			WithSelector(metav1ac.LabelSelector().WithMatchLabels(p.selector())).
			WithStrategy(appsv1ac.DeploymentStrategy().WithType(appsv1.RollingUpdateDeploymentStrategyType).
				WithRollingUpdate(appsv1ac.RollingUpdateDeployment().
					WithMaxUnavailable(intstr.FromInt32(0)).WithMaxSurge(intstr.FromInt32(1)))).
			WithTemplate(corev1ac.PodTemplateSpec().WithLabels(podLabels).WithAnnotations(unreserved(p.plan.InfraAnnotations)).WithSpec(pod)))
	if !p.fixed() && now.version != "" {
		d.WithResourceVersion(now.version)
	}
	return d
}

// spread asks for pods in as many places of a kind as there are. A cluster with one place takes all of them: a gateway that is in one place is
// better than none. Pods of another version do not count, or a rollout would end uneven.
func (p provisioner) spread(topology string) *corev1ac.TopologySpreadConstraintApplyConfiguration {
	return corev1ac.TopologySpreadConstraint().WithMaxSkew(1).WithTopologyKey(topology).WithWhenUnsatisfiable(corev1.ScheduleAnyway).
		WithLabelSelector(metav1ac.LabelSelector().WithMatchLabels(p.selector())).WithMatchLabelKeys(appsv1.DefaultDeploymentUniqueLabelKey)
}

func toleration(t world.Toleration) *corev1ac.TolerationApplyConfiguration {
	out := corev1ac.Toleration()
	if t.Key != "" {
		out.WithKey(t.Key)
	}
	if t.Operator != "" {
		out.WithOperator(corev1.TolerationOperator(t.Operator))
	}
	if t.Value != "" {
		out.WithValue(t.Value)
	}
	if t.Effect != "" {
		out.WithEffect(corev1.TaintEffect(t.Effect))
	}
	if t.Seconds != nil {
		out.WithTolerationSeconds(*t.Seconds)
	}
	return out
}

// ending is how a pod ends: it goes on as before, and then lets its streams end.
func (p provisioner) ending() (settle, drain time.Duration) {
	return ptr.Deref(p.overlay.Settle, gatewaySettle), ptr.Deref(p.overlay.Drain, gatewayDrain)
}

// grace is after how many seconds a pod that is to end is killed: never before its process has ended by itself.
func (p provisioner) grace() int64 {
	settle, drain := p.ending()
	return int64((settle + drain + gatewayEnding + time.Second - 1) / time.Second)
}

func (p provisioner) container() *corev1ac.ContainerApplyConfiguration {
	fromField := func(name, path string) *corev1ac.EnvVarApplyConfiguration {
		return corev1ac.EnvVar().WithName(name).WithValueFrom(corev1ac.EnvVarSource().
			WithFieldRef(corev1ac.ObjectFieldSelector().WithFieldPath(path)))
	}
	get := func(path string, port int32) *corev1ac.HTTPGetActionApplyConfiguration {
		return corev1ac.HTTPGetAction().WithPath(path).WithPort(intstr.FromInt32(port))
	}
	settle, drain := p.ending()
	c := corev1ac.Container().WithName("gateway").WithImage(p.settings.Image).WithImagePullPolicy(corev1.PullIfNotPresent).
		WithArgs(
			"--gateway="+p.namespace+"/"+p.plan.Key.Name,
			"--controller="+p.settings.Controller,
			"--network="+p.plan.Network,
			"--cluster-id="+string(p.settings.Config.LocalCluster),
			"--trust-domain="+p.settings.Config.TrustDomain,
			"--cluster-domain="+p.settings.Config.ClusterDomain,
			"--settle="+settle.String(),
			"--drain="+drain.String(),
			"--state-dir="+gatewayState,
		).
		WithEnv(
			fromField("NODE_NAME", "spec.nodeName"),
			fromField("POD_NAME", "metadata.name"),
			fromField("POD_NAMESPACE", "metadata.namespace"),
			fromField("INSTANCE_IP", "status.podIP"),
			fromField("SERVICE_ACCOUNT", "spec.serviceAccountName"),
		).
		WithPorts(
			corev1ac.ContainerPort().WithName("readiness").WithContainerPort(15021).WithProtocol(corev1.ProtocolTCP),
			corev1ac.ContainerPort().WithName("metrics").WithContainerPort(15020).WithProtocol(corev1.ProtocolTCP),
		).
		// A pod that ends is no longer ready for whoever learns it from Kubernetes. With externalTrafficPolicy Local a node has its connections all the same until a load balancer
		// has learned it, too, as long as the probe says yes.
		WithReadinessProbe(corev1ac.Probe().WithHTTPGet(get("/healthz/ready?settling", 15021)).WithPeriodSeconds(1)).
		WithSecurityContext(corev1ac.SecurityContext().
			WithAllowPrivilegeEscalation(false).WithReadOnlyRootFilesystem(true).
			WithCapabilities(corev1ac.Capabilities().WithDrop("ALL"))).
		WithVolumeMounts(
			corev1ac.VolumeMount().WithName("root-cert").WithMountPath("/var/run/secrets/istio").WithReadOnly(true),
			corev1ac.VolumeMount().WithName("token").WithMountPath("/var/run/secrets/tokens").WithReadOnly(true),
			corev1ac.VolumeMount().WithName("state").WithMountPath(gatewayState),
		)
	if p.settings.Traces != "" {
		c.WithArgs("--otlp-endpoint=" + p.settings.Traces)
	}
	return c.WithResources(p.resources())
}

// resources are what the overlay says, over what a gateway that carries little needs: about 20 MiB, and nearly no processor time; the autoscaler does not look at requests. No limit is usual: one on CPU would slow down
// every stream when many come at once, and one on memory would cut all of them.
func (p provisioner) resources() *corev1ac.ResourceRequirementsApplyConfiguration {
	requests := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("20m"), corev1.ResourceMemory: resource.MustParse("64Mi")}
	limits := quantities(p.overlay.Limits)
	for name, limit := range limits { // a request may not be more than a limit
		if usual, ok := requests[name]; ok && limit.Cmp(usual) < 0 {
			requests[name] = limit
		}
	}
	maps.Copy(requests, quantities(p.overlay.Requests))
	out := corev1ac.ResourceRequirements().WithRequests(requests)
	if len(limits) > 0 {
		out.WithLimits(limits)
	}
	return out
}

// quantities reads what was found to be quantities.
func quantities(in map[string]string) corev1.ResourceList {
	out := make(corev1.ResourceList, len(in))
	for name, text := range in {
		if q, err := resource.ParseQuantity(text); err == nil {
			out[corev1.ResourceName(name)] = q
		}
	}
	return out
}
