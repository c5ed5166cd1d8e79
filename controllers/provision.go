// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"maps"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	policyv1ac "k8s.io/client-go/applyconfigurations/policy/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

const (
	// gatewayNameLabel and gatewayClassLabel are on everything that is made for a Gateway (GEP-1762).
	gatewayNameLabel  = "gateway.networking.k8s.io/gateway-name"
	gatewayClassLabel = "gateway.networking.k8s.io/gateway-class-name"
	// reservedPrefix begins labels and annotations that a Gateway's infrastructure may not set.
	reservedPrefix = "gateway.networking.k8s.io/"
	// gatewayReplicas is how many pods a gateway has: one may go at any time.
	gatewayReplicas = 2
	// gatewayDrain is how long running connections may go on after a pod was told to end, and gatewayGrace adds what the process
	// needs around it, in seconds (design, part 2, promise 5).
	gatewayDrain = 600
	gatewayGrace = gatewayDrain + 30
	// rootCertName is the ConfigMap with the root that peers trust, in every namespace in which something of ours runs.
	rootCertName = "istio-ca-root-cert"
	rootCertKey  = "root-cert.pem"
	// gatewayUser is whom a gateway's process runs as.
	gatewayUser = 65532
)

// ProvisionSettings are the same for every gateway of a cluster.
type ProvisionSettings struct {
	Image      string // of the gateway
	Controller string // host:port of discovery
	Config     world.Config
}

// provision gives what must run for a Gateway: ServiceAccount, Deployment, Service and PodDisruptionBudget, to be applied server-side.
// It is pure.
func provision(plan *translate.GatewayPlan, s ProvisionSettings) []runtime.ApplyConfiguration {
	p := provisioner{plan: plan, settings: s, name: plan.Key.Name, namespace: plan.Key.Namespace}
	objects := []runtime.ApplyConfiguration{p.deployment(), p.service(), p.disruptionBudget()}
	if plan.ServiceAccount == p.name { // another name means that the account is the user's
		objects = append([]runtime.ApplyConfiguration{p.serviceAccount()}, objects...)
	}
	return objects
}

type provisioner struct {
	plan            *translate.GatewayPlan
	settings        ProvisionSettings
	name, namespace string
}

// labels are those that the Gateway asks for, and over them ours.
func (p provisioner) labels() map[string]string {
	labels := unreserved(p.plan.InfraLabels)
	maps.Copy(labels, p.selector())
	labels[gatewayClassLabel] = p.plan.Class
	labels[translate.LabelManagedBy] = translate.ManagedBy
	return labels
}

func (p provisioner) selector() map[string]string { return map[string]string{gatewayNameLabel: p.name} }

func unreserved(in map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range in {
		if !strings.HasPrefix(k, reservedPrefix) {
			out[k] = v
		}
	}
	return out
}

func (p provisioner) owner() *metav1ac.OwnerReferenceApplyConfiguration {
	return metav1ac.OwnerReference().
		WithAPIVersion(gatewayv1.GroupVersion.String()).WithKind("Gateway").
		WithName(p.plan.Key.Name).WithUID(types.UID(p.plan.UID)).WithController(true).WithBlockOwnerDeletion(false)
}

func (p provisioner) serviceAccount() *corev1ac.ServiceAccountApplyConfiguration {
	return corev1ac.ServiceAccount(p.name, p.namespace).
		WithLabels(p.labels()).WithAnnotations(unreserved(p.plan.InfraAnnotations)).WithOwnerReferences(p.owner()).
		WithAutomountServiceAccountToken(false)
}

func (p provisioner) service() *corev1ac.ServiceApplyConfiguration {
	spec := corev1ac.ServiceSpec().WithType(corev1.ServiceType(p.plan.ServiceType)).WithSelector(p.selector()).
		WithIPFamilyPolicy(corev1.IPFamilyPolicyPreferDualStack)
	for _, l := range p.plan.Listeners {
		spec.WithPorts(corev1ac.ServicePort().WithName(portName(l.Name, l.Port)).
			WithPort(int32(l.Port)).WithTargetPort(intstr.FromInt32(int32(l.Bind))).WithProtocol(corev1.ProtocolTCP))
	}
	if len(p.plan.Addresses) > 0 {
		switch corev1.ServiceType(p.plan.ServiceType) {
		case corev1.ServiceTypeLoadBalancer:
			spec.WithLoadBalancerIP(p.plan.Addresses[0]) // deprecated, and the one that all load balancers read
		case corev1.ServiceTypeClusterIP:
			spec.WithClusterIP(p.plan.Addresses[0])
		}
	}
	return corev1ac.Service(p.name, p.namespace).
		WithLabels(p.labels()).WithAnnotations(unreserved(p.plan.InfraAnnotations)).WithOwnerReferences(p.owner()).
		WithSpec(spec)
}

// portName makes a Service's port name, which is a label of at most 63 characters, of a listener's name, which may be longer.
func portName(listener string, port uint16) string {
	if len(listener) <= 63 && !strings.Contains(listener, ".") {
		return listener
	}
	return fmt.Sprintf("port-%d", port)
}

func (p provisioner) disruptionBudget() *policyv1ac.PodDisruptionBudgetApplyConfiguration {
	return policyv1ac.PodDisruptionBudget(p.name, p.namespace).
		WithLabels(p.labels()).WithAnnotations(unreserved(p.plan.InfraAnnotations)).WithOwnerReferences(p.owner()).
		WithSpec(policyv1ac.PodDisruptionBudgetSpec().WithMaxUnavailable(intstr.FromInt32(1)).
			WithSelector(metav1ac.LabelSelector().WithMatchLabels(p.selector())))
}

func (p provisioner) deployment() *appsv1ac.DeploymentApplyConfiguration {
	labels := p.labels()
	podLabels := maps.Clone(labels)
	podLabels["istio.io/dataplane-mode"] = "none" // it ends tunnels itself
	if p.plan.Network != "" {
		podLabels[networkLabel] = p.plan.Network
	}
	pod := corev1ac.PodSpec().
		WithServiceAccountName(p.plan.ServiceAccount).
		WithAutomountServiceAccountToken(false).
		WithTerminationGracePeriodSeconds(gatewayGrace).
		WithSecurityContext(corev1ac.PodSecurityContext().
			WithRunAsNonRoot(true).WithRunAsUser(gatewayUser).WithRunAsGroup(gatewayUser).WithFSGroup(gatewayUser).
			WithSeccompProfile(corev1ac.SeccompProfile().WithType(corev1.SeccompProfileTypeRuntimeDefault))).
		WithAffinity(corev1ac.Affinity().WithPodAntiAffinity(corev1ac.PodAntiAffinity().
			WithPreferredDuringSchedulingIgnoredDuringExecution(corev1ac.WeightedPodAffinityTerm().WithWeight(100).
				WithPodAffinityTerm(corev1ac.PodAffinityTerm().WithTopologyKey(corev1.LabelHostname).
					WithLabelSelector(metav1ac.LabelSelector().WithMatchLabels(p.selector())))))).
		WithContainers(p.container()).
		WithVolumes(
			corev1ac.Volume().WithName("root-cert").WithConfigMap(corev1ac.ConfigMapVolumeSource().WithName(rootCertName)),
			corev1ac.Volume().WithName("token").WithProjected(corev1ac.ProjectedVolumeSource().WithSources(
				corev1ac.VolumeProjection().WithServiceAccountToken(corev1ac.ServiceAccountTokenProjection().
					WithPath("istio-token").WithAudience(tokenAudience).WithExpirationSeconds(43200)))),
		)
	return appsv1ac.Deployment(p.name, p.namespace).
		WithLabels(labels).WithAnnotations(unreserved(p.plan.InfraAnnotations)).WithOwnerReferences(p.owner()).
		WithSpec(appsv1ac.DeploymentSpec().
			WithReplicas(gatewayReplicas).
			WithSelector(metav1ac.LabelSelector().WithMatchLabels(p.selector())).
			WithStrategy(appsv1ac.DeploymentStrategy().WithType(appsv1.RollingUpdateDeploymentStrategyType).
				WithRollingUpdate(appsv1ac.RollingUpdateDeployment().
					WithMaxUnavailable(intstr.FromInt32(0)).WithMaxSurge(intstr.FromInt32(1)))).
			WithTemplate(corev1ac.PodTemplateSpec().WithLabels(podLabels).WithAnnotations(unreserved(p.plan.InfraAnnotations)).WithSpec(pod)))
}

func (p provisioner) container() *corev1ac.ContainerApplyConfiguration {
	fromField := func(name, path string) *corev1ac.EnvVarApplyConfiguration {
		return corev1ac.EnvVar().WithName(name).WithValueFrom(corev1ac.EnvVarSource().
			WithFieldRef(corev1ac.ObjectFieldSelector().WithFieldPath(path)))
	}
	get := func(path string, port int32) *corev1ac.HTTPGetActionApplyConfiguration {
		return corev1ac.HTTPGetAction().WithPath(path).WithPort(intstr.FromInt32(port))
	}
	c := corev1ac.Container().WithName("gateway").WithImage(p.settings.Image).WithImagePullPolicy(corev1.PullIfNotPresent).
		WithArgs(
			"--gateway="+p.namespace+"/"+p.name,
			"--controller="+p.settings.Controller,
			"--network="+p.plan.Network,
			"--cluster-id="+string(p.settings.Config.LocalCluster),
			"--trust-domain="+p.settings.Config.TrustDomain,
			"--cluster-domain="+p.settings.Config.ClusterDomain,
			fmt.Sprintf("--drain=%ds", gatewayDrain),
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
		WithReadinessProbe(corev1ac.Probe().WithHTTPGet(get("/healthz/ready", 15021)).WithPeriodSeconds(1)).
		WithSecurityContext(corev1ac.SecurityContext().
			WithAllowPrivilegeEscalation(false).WithReadOnlyRootFilesystem(true).
			WithCapabilities(corev1ac.Capabilities().WithDrop("ALL"))).
		WithVolumeMounts(
			corev1ac.VolumeMount().WithName("root-cert").WithMountPath("/var/run/secrets/istio").WithReadOnly(true),
			corev1ac.VolumeMount().WithName("token").WithMountPath("/var/run/secrets/tokens").WithReadOnly(true),
		)
	return c
}
