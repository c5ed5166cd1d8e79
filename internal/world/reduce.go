// SPDX-License-Identifier: Apache-2.0

package world

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Bounds on what one object may hold. They are at or above what the API server lets through in an honest cluster, and keep
// a dishonest one from filling our memory by one object.
const (
	maxLabels       = 128  // labels of one object
	maxAddresses    = 16   // addresses of one pod, Service or endpoint; Kubernetes gives at most 2, load balancers a few more
	maxPorts        = 256  // ports of one Service or slice; EndpointSlice's own limit is 100
	maxEndpoints    = 1000 // endpoints of one slice: EndpointSlice's own limit
	maxLabelsLength = 317  // bytes of a label's key or value: 253 of prefix, '/', 63 of name
)

// Labels and annotations that are read.
const (
	LabelNetwork                 = "topology.istio.io/network"
	LabelSubzone                 = "topology.istio.io/subzone"
	AnnotationRedirection        = "ambient.istio.io/redirection"
	AnnotationConfines           = "isthmus.dev/confines"
	AnnotationDistribution       = "networking.istio.io/traffic-distribution"
	AnnotationServiceAccount     = "gateway.istio.io/service-account"
	AnnotationServiceType        = "networking.istio.io/service-type"
	AnnotationInboundBinding     = "ambient.istio.io/waypoint-inbound-binding"
	AnnotationDryRun             = "istio.io/dry-run"
	LabelTunnel                  = "networking.istio.io/tunnel"
	LabelGlobal                  = "istio.io/global"
	LabelEastWestGateways        = "isthmus.dev/eastwest-gateways" // of a namespace: "true" lets its Gateways be ways into the cluster
	LabelUseWaypoint             = "istio.io/use-waypoint"
	LabelUseWaypointNamespace    = "istio.io/use-waypoint-namespace"
	LabelWaypointFor             = "istio.io/waypoint-for"
	LabelDataplaneMode           = "istio.io/dataplane-mode"
	labelPodTemplateHash         = "pod-template-hash"
	redirectionEnabled           = "enabled"
	labelApp, appNodeProxy       = "app", "isthmus-nodeproxy"
	labelTunnelHTTP              = "http"
	cronJobSuffixShort, longDate = 8, 10 // digits that a CronJob puts behind its name
)

// ReducePod gives nil for a pod that has ended, which is as good as absent, and for one whose identity could not be written down.
func ReducePod(c Cluster, p *corev1.Pod) *Pod {
	if p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded {
		return nil
	}
	if account := p.Spec.ServiceAccountName; !isLabel(p.Namespace) || account != "" && !isSubdomain(account) {
		return nil
	}
	out := &Pod{
		Key:            Key{c, p.Namespace, p.Name},
		Labels:         boundedLabels(p.Labels),
		Node:           p.Spec.NodeName,
		ServiceAccount: p.Spec.ServiceAccountName,
		HostNetwork:    p.Spec.HostNetwork,
		Deleting:       p.DeletionTimestamp != nil,
		Captured:       p.Annotations[AnnotationRedirection] == redirectionEnabled || p.Labels[LabelTunnel] == labelTunnelHTTP,
	}
	if out.ServiceAccount == "" {
		out.ServiceAccount = "default"
	}
	ips := make([]string, 0, len(p.Status.PodIPs)+1)
	for _, ip := range p.Status.PodIPs {
		ips = append(ips, ip.IP)
	}
	if len(ips) == 0 && p.Status.PodIP != "" {
		ips = append(ips, p.Status.PodIP)
	}
	out.Addresses = addresses(ips)
	for _, cond := range p.Status.Conditions {
		if cond.Type == corev1.PodReady {
			out.Ready = cond.Status == corev1.ConditionTrue
		}
	}
	if p.Labels[labelApp] == appNodeProxy && p.Status.Phase == corev1.PodRunning {
		if out.NodeProxy = NodeProxyPlain; p.Annotations[AnnotationConfines] == "true" {
			out.NodeProxy = NodeProxyConfines
		}
	}
	out.WorkloadName, out.WorkloadKind = owner(p)
	return out
}

// owner finds the name and kind under which telemetry knows a pod.
func owner(p *corev1.Pod) (string, mesh.WorkloadKind) {
	for _, ref := range p.OwnerReferences {
		if ref.Controller == nil || !*ref.Controller {
			continue
		}
		switch ref.Kind {
		case "ReplicaSet":
			if hash := p.Labels[labelPodTemplateHash]; hash != "" {
				return strings.TrimSuffix(ref.Name, "-"+hash), mesh.KindDeployment
			}
			return ref.Name, mesh.KindDeployment
		case "Job":
			if i := strings.LastIndexByte(ref.Name, '-'); i > 0 {
				suffix := ref.Name[i+1:]
				if _, err := strconv.ParseUint(suffix, 10, 64); err == nil && len(suffix) >= cronJobSuffixShort && len(suffix) <= longDate {
					return ref.Name[:i], mesh.KindCronJob
				}
			}
			return ref.Name, mesh.KindJob
		default:
			return ref.Name, mesh.KindPod
		}
	}
	return p.Name, mesh.KindPod
}

// ReduceService keeps TCP and UDP ports. It gives nil for one whose name cannot be part of a hostname.
func ReduceService(c Cluster, s *corev1.Service) *Service {
	if !isLabel(s.Namespace) || !isLabel(s.Name) {
		return nil
	}
	out := &Service{
		Key:          Key{c, s.Namespace, s.Name},
		Labels:       boundedLabels(s.Labels),
		Headless:     s.Spec.ClusterIP == corev1.ClusterIPNone,
		ExternalName: s.Spec.Type == corev1.ServiceTypeExternalName,
		NodeLocal:    s.Spec.InternalTrafficPolicy != nil && *s.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal,
		NotReady:     s.Spec.PublishNotReadyAddresses,
		Deleting:     s.DeletionTimestamp != nil,
		Distribution: bounded(s.Annotations[AnnotationDistribution]),
	}
	switch s.Spec.Type {
	case corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeNodePort:
		out.Type = string(s.Spec.Type)
	case corev1.ServiceTypeClusterIP, "":
		out.Type = string(corev1.ServiceTypeClusterIP)
	}
	for _, ref := range s.OwnerReferences {
		if ref.Controller != nil && *ref.Controller {
			out.Owner, out.OwnerGateway = bounded(string(ref.UID)), ""
			if group, _, _ := strings.Cut(ref.APIVersion, "/"); group == gatewayv1.GroupName && ref.Kind == string(KindGateway) {
				out.OwnerGateway = bounded(ref.Name)
			}
		}
	}
	if s.Spec.TrafficDistribution != nil {
		out.Distribution = bounded(*s.Spec.TrafficDistribution)
	}
	ips := s.Spec.ClusterIPs
	if len(ips) == 0 && s.Spec.ClusterIP != "" {
		ips = []string{s.Spec.ClusterIP}
	}
	out.Addresses = addresses(ips) // "None" is no address
	switch {
	case len(s.Spec.IPFamilies) == 2:
		out.Families = mesh.FamiliesDual
	case len(s.Spec.IPFamilies) == 1 && s.Spec.IPFamilies[0] == corev1.IPv6Protocol:
		out.Families = mesh.FamiliesIPv6
	case len(s.Spec.IPFamilies) == 1:
		out.Families = mesh.FamiliesIPv4
	}
	var elsewhere []uint16 // what nodes serve at other ports
	for _, p := range s.Spec.Ports {
		if len(out.Ports)+len(out.UDPPorts) == maxPorts {
			break
		}
		ports := &out.Ports
		if p.Protocol == corev1.ProtocolUDP {
			ports = &out.UDPPorts
		} else if p.Protocol != corev1.ProtocolTCP && p.Protocol != "" {
			continue
		}
		if !isPort(p.Port) {
			continue
		}
		port := ServicePort{Name: bounded(p.Name), Port: uint16(p.Port), App: appProtocol(p)}
		switch {
		case p.TargetPort.StrVal != "": // by name: the slices know the number
		case isPort(p.TargetPort.IntVal):
			port.Target = uint16(p.TargetPort.IntVal)
		default:
			port.Target = port.Port
		}
		*ports = append(*ports, port)
		if p.NodePort == p.Port {
			out.AtNodes = append(out.AtNodes, port.Port)
		} else if p.NodePort != 0 {
			elsewhere = append(elsewhere, port.Port)
		}
		switch {
		case p.AppProtocol == nil || ports != &out.Ports:
		case port.App == mesh.AppTLS:
			out.AsksTLS = append(out.AsksTLS, port.Port)
		case port.App == mesh.AppUnknown && strings.Contains(*p.AppProtocol, "/"):
			out.Unspoken = append(out.Unspoken, port.Port)
		}
	}
	out.AtNodes = slices.DeleteFunc(out.AtNodes, func(p uint16) bool { return slices.Contains(elsewhere, p) })
	for _, in := range s.Status.LoadBalancer.Ingress {
		if len(out.Ingress) == maxAddresses {
			break
		}
		if ip, err := netip.ParseAddr(in.IP); err == nil {
			out.Ingress = append(out.Ingress, ip.Unmap().String()) // as everything else has it that it is compared with
		} else if in.IP != "" {
			out.Ingress = append(out.Ingress, bounded(in.IP))
		} else if name := hostname(in.Hostname); name != "" {
			out.Ingress = append(out.Ingress, name)
		}
	}
	return out
}

// appProtocol reads appProtocol, or the prefix of the port's name.
func appProtocol(p corev1.ServicePort) mesh.AppProtocol {
	name, _, _ := strings.Cut(p.Name, "-")
	if p.AppProtocol != nil {
		name = *p.AppProtocol
	}
	switch strings.ToLower(name) {
	case "http", "http1", "kubernetes.io/ws":
		return mesh.AppHTTP11
	case "http2", "h2c", "kubernetes.io/h2c":
		return mesh.AppHTTP2
	case "grpc", "grpcweb":
		return mesh.AppGRPC
	case "tcp":
		return mesh.AppTCP
	case "tls", "https", "kubernetes.io/wss":
		return mesh.AppTLS
	}
	return mesh.AppUnknown
}

// ReduceEndpointSlice gives nil for a slice that belongs to no Service or holds names instead of addresses.
func ReduceEndpointSlice(c Cluster, e *discoveryv1.EndpointSlice) *EndpointSlice {
	service := e.Labels[discoveryv1.LabelServiceName]
	if service == "" || e.AddressType != discoveryv1.AddressTypeIPv4 && e.AddressType != discoveryv1.AddressTypeIPv6 {
		return nil
	}
	out := &EndpointSlice{Key: Key{c, e.Namespace, e.Name}, Service: service}
	for _, p := range e.Ports {
		if len(out.Ports)+len(out.UDPPorts) == maxPorts {
			break
		}
		ports := &out.Ports
		if p.Protocol != nil && *p.Protocol == corev1.ProtocolUDP {
			ports = &out.UDPPorts
		} else if p.Protocol != nil && *p.Protocol != corev1.ProtocolTCP {
			continue
		}
		if p.Port == nil || !isPort(*p.Port) {
			continue
		}
		port := EndpointPort{Port: uint16(*p.Port)}
		if p.Name != nil {
			port.Name = bounded(*p.Name)
		}
		*ports = append(*ports, port)
	}
	for _, ep := range e.Endpoints {
		if len(out.Endpoints) == maxEndpoints {
			break
		}
		reduced := Endpoint{
			Addresses: addresses(ep.Addresses),
			Ready:     ep.Conditions.Ready == nil || *ep.Conditions.Ready,
		}
		if ep.NodeName != nil {
			reduced.Node = *ep.NodeName
		}
		// A slice may name a pod of its own namespace only: anything else would lend one namespace's name to
		// another's pods.
		if ref := ep.TargetRef; ref != nil && ref.Kind == "Pod" {
			if ref.Namespace != "" && ref.Namespace != e.Namespace {
				continue
			}
			reduced.Pod = ref.Name
			// The pod says these itself, and sooner.
			reduced.Ready, reduced.Node, reduced.Addresses = false, "", nil
		}
		if reduced.Pod == "" && len(reduced.Addresses) == 0 {
			continue
		}
		out.Endpoints = append(out.Endpoints, reduced)
	}
	return out
}

// ReduceNode keeps where the node is.
func ReduceNode(c Cluster, n *corev1.Node) *Node {
	out := &Node{Key: Key{c, "", n.Name}, Locality: mesh.Locality{
		Region:  bounded(n.Labels[corev1.LabelTopologyRegion]),
		Zone:    bounded(n.Labels[corev1.LabelTopologyZone]),
		Subzone: bounded(n.Labels[LabelSubzone]),
	}}
	for _, kind := range []corev1.NodeAddressType{corev1.NodeExternalIP, corev1.NodeInternalIP} {
		var texts []string
		for _, a := range n.Status.Addresses {
			if a.Type == kind {
				texts = append(texts, a.Address)
			}
		}
		if out.Addresses = addresses(texts); len(out.Addresses) > 0 {
			break
		}
	}
	return out
}

// ReduceNamespace keeps the labels.
func ReduceNamespace(c Cluster, n *corev1.Namespace) *Namespace {
	return &Namespace{
		Key:          Key{c, "", n.Name},
		Labels:       boundedLabels(n.Labels),
		Distribution: bounded(n.Annotations[AnnotationDistribution]),
	}
}

// addresses keeps what can be another machine's address: no loopback, no link-local (which holds clouds' metadata services),
// no multicast, and no zone.
func addresses(in []string) []netip.Addr {
	var out []netip.Addr
	for _, s := range in {
		if len(out) == maxAddresses {
			break
		}
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" || !a.Unmap().IsGlobalUnicast() {
			continue
		}
		out = append(out, a.Unmap())
	}
	return out
}

func isPort(p int32) bool { return p >= 1 && p <= 65535 }

// bounded gives s, or "" when no honest API server would have let it through.
func bounded(s string) string {
	if len(s) > maxLabelsLength {
		return ""
	}
	return s
}

// cut shortens what is only compared to something shorter: a value that is too long stays one that matches nothing.
func cut(s string) string { return s[:min(len(s), maxLabelsLength)] }

// boundedLabels copies labels that are within bounds. A map that has too many is not a label map; it counts as empty.
func boundedLabels(in map[string]string) map[string]string {
	if len(in) == 0 || len(in) > maxLabels {
		return nil
	}
	out := make(map[string]string, len(in))
	for k, v := range in {
		if len(k) > maxLabelsLength || len(v) > maxLabelsLength || k == LabelNetwork && !isLabelValue(v) {
			continue // a network's name becomes a part of other names
		}
		out[k] = v
	}
	return out
}

// isLabel says whether s can be one label of a hostname, as the names of namespaces and Services are (RFC 1123). An API server that
// is not ours may say anything, and a name that is none would spoil what it becomes a part of.
func isLabel(s string) bool { return len(s) <= 63 && isName(s, "-") }

// isSubdomain says whether s can be the name of most objects, a ServiceAccount among them.
func isSubdomain(s string) bool { return len(s) <= 253 && isName(s, "-.") }

// isName says whether s holds lower-case letters, digits and, but for its ends, the other characters.
func isName(s, others string) bool {
	if s == "" {
		return false
	}
	for i, r := range []byte(s) {
		alphanumeric := r >= 'a' && r <= 'z' || r >= '0' && r <= '9'
		if !alphanumeric && (i == 0 || i == len(s)-1 || strings.IndexByte(others, r) < 0) {
			return false
		}
	}
	return true
}

// isLabelValue says whether s can be the value of a Kubernetes label.
func isLabelValue(s string) bool { return s == "" || len(s) <= 63 && isName(strings.ToLower(s), "-._") }
