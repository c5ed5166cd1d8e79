// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	policyv1ac "k8s.io/client-go/applyconfigurations/policy/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

const (
	// gatewayNameLabel and gatewayClassLabel are on everything that is made for a Gateway (GEP-1762).
	gatewayNameLabel  = "gateway.networking.k8s.io/gateway-name"
	gatewayClassLabel = "gateway.networking.k8s.io/gateway-class-name"
	// reservedPrefix begins labels and annotations that a Gateway's infrastructure may not set.
	reservedPrefix = "gateway.networking.k8s.io/"
	// apparmorPrefix and redirectionPrefix begin annotations that would change a pod's confinement, or say that it is captured. Kubernetes keeps those of deploymentPrefix itself, and would write its own
	// again as often as we wrote another one.
	apparmorPrefix, redirectionPrefix, deploymentPrefix = "container.apparmor.security.beta.kubernetes.io/", "ambient.istio.io/", "deployment.kubernetes.io/"
	// rootCertName is the ConfigMap with the root that peers trust, in every namespace in which something of ours runs.
	rootCertName = "istio-ca-root-cert"
	rootCertKey  = "root-cert.pem"
)

// ProvisionSettings are the same for every gateway of a cluster.
type ProvisionSettings struct {
	Image      string // of the gateway
	Controller string // host:port of discovery
	Traces     string // where gateways send spans; "": nowhere
	Config     world.Config
}

// provision gives what must run for a Gateway: Service, ServiceAccount, Deployment, PodDisruptionBudget and HorizontalPodAutoscaler, to be
// applied server-side, in this order: of the first one an API server refuses most, and after it nothing else shall change. Of a Gateway that is kept as it was that is all but the Service. It is pure.
func provision(plan *translate.GatewayPlan, s ProvisionSettings, now running) []runtime.ApplyConfiguration {
	if plan.Unmanaged && !plan.Kept {
		return nil
	}
	p := provisioner{plan: plan, settings: s, name: plan.Name, namespace: plan.Key.Namespace, overlay: overlayOf(plan)}
	var objects []runtime.ApplyConfiguration
	if !plan.Kept {
		objects = append(objects, p.service(now))
	}
	if plan.ServiceAccount == p.name { // another name means that the account is the user's
		objects = append(objects, p.serviceAccount())
	}
	objects = append(objects, p.deployment(now), p.disruptionBudget())
	if p.scales(now) {
		objects = append(objects, p.autoscaler())
	}
	return objects
}

func overlayOf(plan *translate.GatewayPlan) *world.Overlay {
	if plan.Overlay.Usable() {
		return plan.Overlay
	}
	return &world.Overlay{}
}

type provisioner struct {
	plan            *translate.GatewayPlan
	settings        ProvisionSettings
	name, namespace string
	overlay         *world.Overlay // never nil
}

// labels are those that the Gateway asks for, and over them ours.
func (p provisioner) labels() map[string]string {
	labels := maps.Clone(p.plan.InfraLabels)
	maps.DeleteFunc(labels, func(k, _ string) bool { return strings.HasPrefix(k, reservedPrefix) })
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, p.selector())
	labels[gatewayClassLabel] = translate.ClassLabel(p.plan.Class)
	labels[translate.LabelManagedBy] = translate.ManagedBy
	return labels
}

func (p provisioner) selector() map[string]string { return map[string]string{gatewayNameLabel: p.name} }

// unreserved are the annotations of those that a Gateway asks for that it may have.
func unreserved(in map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range in {
		reserved := func(prefix string) bool { return strings.HasPrefix(k, prefix) }
		if !slices.ContainsFunc([]string{reservedPrefix, apparmorPrefix, redirectionPrefix, deploymentPrefix}, reserved) {
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

func (p provisioner) service(now running) *corev1ac.ServiceApplyConfiguration {
	spec := corev1ac.ServiceSpec().WithType(corev1.ServiceType(p.plan.ServiceType)).WithSelector(p.selector()).
		WithIPFamilyPolicy(corev1.IPFamilyPolicyPreferDualStack)
	kind := corev1.ServiceType(p.plan.ServiceType)
	for _, l := range p.plan.Listeners {
		port := corev1ac.ServicePort().WithName(portName(l, p.plan.Listeners)).
			WithPort(int32(l.Port)).WithTargetPort(intstr.FromInt32(int32(l.Bind))).WithProtocol(protocolOf(l))
		if n := translate.NodePortOf(l.Port); n != 0 && kind == corev1.ServiceTypeNodePort {
			port.WithNodePort(n)
		}
		spec.WithPorts(port)
	}
	if len(p.plan.Addresses) > 0 {
		switch kind {
		case corev1.ServiceTypeLoadBalancer:
			spec.WithLoadBalancerIP(p.plan.Addresses[0]) // deprecated, and the one that all load balancers read
		case corev1.ServiceTypeClusterIP:
			if addresses := possible(p.plan.Addresses, now.clusterIPs); len(addresses) > 0 {
				spec.WithClusterIP(addresses[0])
				if len(addresses) > 1 { // with one the API server adds the other family's, which must not be taken away again
					spec.WithClusterIPs(addresses...)
				}
			}
		}
	}
	if o := p.overlay; kind != corev1.ServiceTypeClusterIP {
		if o.ExternalTrafficPolicy != "" {
			spec.WithExternalTrafficPolicy(corev1.ServiceExternalTrafficPolicy(o.ExternalTrafficPolicy))
		}
		if o.LoadBalancerClass != "" {
			spec.WithLoadBalancerClass(o.LoadBalancerClass)
		}
		spec.WithLoadBalancerSourceRanges(o.SourceRanges...)
	}
	annotations := unreserved(p.plan.InfraAnnotations)
	maps.Copy(annotations, unreserved(p.overlay.ServiceAnnotations))
	return corev1ac.Service(p.name, p.namespace).
		WithLabels(p.labels()).WithAnnotations(annotations).WithOwnerReferences(p.owner()).
		WithSpec(spec)
}

// possible are those of the cluster IPs that are asked for that a Service with some can have, which is one of each family: its first one never changes, and neither does the second one once it is there. To ask for another one
// would have the API server refuse everything else, too.
func possible(asked, has []string) []string {
	if len(has) == 0 { // whichever it is to have comes first
		has = asked[:1]
	}
	if !slices.Contains(asked, has[0]) {
		return nil
	}
	out := has[:1:1]
	for _, a := range asked {
		if len(has) == 1 && strings.Contains(a, ":") != strings.Contains(has[0], ":") || len(has) > 1 && a == has[1] {
			return append(out, a)
		}
	}
	return out
}

// protocolOf is how a Service's port names what a listener takes.
func protocolOf(l mesh.Listener) corev1.Protocol {
	if l.Protocol == mesh.ListenerUDP {
		return corev1.ProtocolUDP
	}
	return corev1.ProtocolTCP
}

// portName makes a Service's port name, which is a label of at most 63 characters, of a listener's name, which may be longer, or that of a ListenerSet's, which
// says whose it is. No two of all have the same, and which are for ListenerSets can be told.
func portName(l mesh.Listener, all []mesh.Listener) string {
	name := fmt.Sprintf("port-%d", l.Port)
	switch {
	case strings.Contains(l.Name, "/"):
		name = translate.SetPortName(l)
	case len(l.Name) <= 63 && !strings.Contains(l.Name, ".") && !translate.IsSetPort(l.Name):
		return l.Name
	case l.Protocol == mesh.ListenerUDP: // a port may be for both
		name = fmt.Sprintf("udp-%d", l.Port)
	}
	for slices.ContainsFunc(all, func(other mesh.Listener) bool { return other.Name == name }) {
		name += "x"
	}
	return name
}

func (p provisioner) disruptionBudget() *policyv1ac.PodDisruptionBudgetApplyConfiguration {
	return policyv1ac.PodDisruptionBudget(p.name, p.namespace).
		WithLabels(p.labels()).WithAnnotations(unreserved(p.plan.InfraAnnotations)).WithOwnerReferences(p.owner()).
		WithSpec(policyv1ac.PodDisruptionBudgetSpec().WithMaxUnavailable(intstr.FromInt32(1)).
			// A pod that is not ready serves nobody new, and would keep its node from being drained.
			WithUnhealthyPodEvictionPolicy(policyv1.AlwaysAllow).
			WithSelector(metav1ac.LabelSelector().WithMatchLabels(p.selector())))
}
