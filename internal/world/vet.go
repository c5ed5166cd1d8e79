// SPDX-License-Identifier: Apache-2.0

package world

import (
	"fmt"
	"net/netip"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
)

// Refusal says what is wrong with an object that another cluster's API server gave.
type Refusal struct {
	Kind            Kind
	Namespace, Name string // as claimed, shortened
	Field, Problem  string
}

// String names the object, the field and the problem. It is short and printable, whatever the object holds.
func (r *Refusal) String() string {
	name := r.Name
	if r.Namespace != "" {
		name = r.Namespace + "/" + name
	}
	return fmt.Sprintf("%s %s: %s: %s", r.Kind, name, r.Field, r.Problem)
}

// Vet looks at an object of another cluster before anything of it is kept. Our own API server checks what it stores; another cluster's
// may be anything that speaks the protocol, and what it says ends up in names, identities and addresses here. So what no honest API
// server could have stored is refused as a whole, and nil means that [Reduce] may have it.
//
// Form alone is judged here. Whether a claim is one that the cluster may make is for package translate to say.
func Vet(object any) *Refusal {
	v := &vetting{}
	switch o := object.(type) {
	case *corev1.Pod:
		v.meta(KindPod, &o.ObjectMeta, isLabel, isSubdomain)
		v.pod(o)
	case *corev1.Service:
		v.meta(KindService, &o.ObjectMeta, isLabel, isLabel)
		v.service(o)
	case *discoveryv1.EndpointSlice:
		v.meta(KindEndpointSlice, &o.ObjectMeta, isLabel, isSubdomain)
		v.slice(o)
	case *corev1.Node:
		v.meta(KindNode, &o.ObjectMeta, nil, isSubdomain)
	case *corev1.Namespace:
		v.meta(KindNamespace, &o.ObjectMeta, nil, isLabel)
		v.text("metadata.annotations["+AnnotationDistribution+"]", o.Annotations[AnnotationDistribution])
	case *gatewayv1.GatewayClass:
		v.meta(KindGatewayClass, &o.ObjectMeta, nil, isSubdomain)
		v.text("spec.controllerName", string(o.Spec.ControllerName))
	case *gatewayv1.Gateway:
		v.meta(KindGateway, &o.ObjectMeta, isLabel, isSubdomain)
		v.gateway(o)
	case *v1alpha1.ServiceScope:
		v.meta(KindServiceScope, &o.ObjectMeta, nil, isSubdomain)
	}
	return v.found
}

// vetting keeps the first thing that is wrong with an object.
type vetting struct {
	kind  Kind
	about *metav1.ObjectMeta
	found *Refusal
}

func (v *vetting) refuse(field, format string, args ...any) {
	if v.found == nil {
		v.found = &Refusal{Kind: v.kind, Namespace: printable(v.about.Namespace), Name: printable(v.about.Name), Field: field, Problem: fmt.Sprintf(format, args...)}
	}
}

// must refuses a value for which ok is false.
func (v *vetting) must(ok func(string) bool, field, value, what string) {
	if !ok(value) {
		v.refuse(field, "%s is no %s", quoted(value), what)
	}
}

// may is must for a value that may be absent.
func (v *vetting) may(ok func(string) bool, field, value, what string) {
	if value != "" {
		v.must(ok, field, value, what)
	}
}

// text refuses what is longer than any label or annotation that is read, or does not print.
func (v *vetting) text(field, value string) {
	v.may(isText, field, value, "printable text of at most "+strconv.Itoa(maxText)+" bytes")
}

func (v *vetting) count(field string, n, most int) {
	if n > most {
		v.refuse(field, "%d entries are more than the %d allowed", n, most)
	}
}

func (v *vetting) meta(kind Kind, m *metav1.ObjectMeta, namespace, name func(string) bool) {
	v.kind, v.about = kind, m
	if namespace != nil {
		v.must(namespace, "metadata.namespace", m.Namespace, "name of a namespace")
	} else if m.Namespace != "" {
		v.refuse("metadata.namespace", "%s: the kind has no namespace", quoted(m.Namespace))
	}
	v.must(name, "metadata.name", m.Name, "name")
	v.count("metadata.labels", len(m.Labels), maxLabels)
	if v.found != nil {
		return // too many labels to look at them all
	}
	for key, value := range m.Labels {
		if !isQualifiedName(key) {
			v.refuse("metadata.labels", "%s is no label's key", quoted(key))
		}
		if !isLabelValue(value) {
			v.refuse("metadata.labels["+printable(key)+"]", "%s is no label's value", quoted(value))
		}
	}
	v.count("metadata.ownerReferences", len(m.OwnerReferences), maxOwners)
	for i, ref := range m.OwnerReferences[:min(len(m.OwnerReferences), maxOwners)] {
		at := fmt.Sprintf("metadata.ownerReferences[%d]", i)
		v.must(isSegment, at+".name", ref.Name, "name")
		v.must(isSegment, at+".kind", ref.Kind, "kind")
		v.must(isSegment, at+".uid", string(ref.UID), "UID")
	}
	v.may(isSegment, "metadata.uid", string(m.UID), "UID")
	if len(m.ResourceVersion) > maxVersion {
		v.refuse("metadata.resourceVersion", "%s has more than %d bytes", quoted(m.ResourceVersion), maxVersion)
	}
}

func (v *vetting) pod(p *corev1.Pod) {
	v.may(isSubdomain, "spec.nodeName", p.Spec.NodeName, "name of a node")
	v.may(isSubdomain, "spec.serviceAccountName", p.Spec.ServiceAccountName, "name of a service account")
	v.count("status.podIPs", len(p.Status.PodIPs), maxAddresses)
	for i, ip := range p.Status.PodIPs[:min(len(p.Status.PodIPs), maxAddresses)] {
		v.address(fmt.Sprintf("status.podIPs[%d]", i), ip.IP)
	}
	if p.Status.PodIP != "" {
		v.address("status.podIP", p.Status.PodIP)
	}
}

func (v *vetting) service(s *corev1.Service) {
	v.count("spec.clusterIPs", len(s.Spec.ClusterIPs), maxAddresses)
	for i, ip := range s.Spec.ClusterIPs[:min(len(s.Spec.ClusterIPs), maxAddresses)] {
		if ip != corev1.ClusterIPNone {
			v.address(fmt.Sprintf("spec.clusterIPs[%d]", i), ip)
		}
	}
	if ip := s.Spec.ClusterIP; ip != "" && ip != corev1.ClusterIPNone {
		v.address("spec.clusterIP", ip)
	}
	v.text("metadata.annotations["+AnnotationDistribution+"]", s.Annotations[AnnotationDistribution])
	if d := s.Spec.TrafficDistribution; d != nil {
		v.text("spec.trafficDistribution", *d)
	}
	v.count("spec.ports", len(s.Spec.Ports), maxServicePorts)
	type number struct {
		protocol corev1.Protocol
		port     int32
	}
	seen := map[number]bool{}
	for i, p := range s.Spec.Ports[:min(len(s.Spec.Ports), maxServicePorts)] {
		at := fmt.Sprintf("spec.ports[%d]", i)
		v.port(at+".port", p.Port)
		v.may(isLabel, at+".name", p.Name, "name of a port")
		v.protocol(at+".protocol", string(p.Protocol))
		if p.AppProtocol != nil {
			v.may(isQualifiedName, at+".appProtocol", *p.AppProtocol, "protocol")
		}
		v.may(isLabel, at+".targetPort", p.TargetPort.StrVal, "name of a port")
		if n := p.TargetPort.IntVal; n != 0 {
			v.port(at+".targetPort", n)
		}
		if n := (number{p.Protocol, p.Port}); seen[n] {
			v.refuse(at+".port", "%d is there twice", p.Port)
		} else {
			seen[n] = true
		}
	}
}

func (v *vetting) slice(e *discoveryv1.EndpointSlice) {
	v.may(isLabel, "metadata.labels["+discoveryv1.LabelServiceName+"]", e.Labels[discoveryv1.LabelServiceName], "name of a Service")
	v.count("ports", len(e.Ports), maxPorts)
	for i, p := range e.Ports[:min(len(e.Ports), maxPorts)] {
		at := fmt.Sprintf("ports[%d]", i)
		if p.Port != nil {
			v.port(at+".port", *p.Port)
		}
		if p.Name != nil {
			v.may(isLabel, at+".name", *p.Name, "name of a port")
		}
		if p.Protocol != nil {
			v.protocol(at+".protocol", string(*p.Protocol))
		}
	}
	v.count("endpoints", len(e.Endpoints), maxEndpoints)
	for i := range e.Endpoints[:min(len(e.Endpoints), maxEndpoints)] {
		ep, at := &e.Endpoints[i], "endpoints["+strconv.Itoa(i)+"]"
		v.count(at+".addresses", len(ep.Addresses), maxSliceAddresses)
		if e.AddressType != discoveryv1.AddressTypeFQDN {
			for j, a := range ep.Addresses[:min(len(ep.Addresses), maxSliceAddresses)] {
				v.address(at+".addresses["+strconv.Itoa(j)+"]", a)
			}
		}
		if ep.NodeName != nil {
			v.may(isSubdomain, at+".nodeName", *ep.NodeName, "name of a node")
		}
		if ref := ep.TargetRef; ref != nil && ref.Kind == "Pod" {
			v.must(isSubdomain, at+".targetRef.name", ref.Name, "name of a pod")
			if ref.Namespace != "" && ref.Namespace != e.Namespace {
				v.refuse(at+".targetRef.namespace", "%s: a slice speaks for its own namespace only", quoted(ref.Namespace))
			}
		}
	}
}

func (v *vetting) gateway(g *gatewayv1.Gateway) {
	v.must(isSubdomain, "spec.gatewayClassName", string(g.Spec.GatewayClassName), "name of a class")
	v.may(isSubdomain, "metadata.annotations["+AnnotationServiceAccount+"]", g.Annotations[AnnotationServiceAccount], "name of a service account")
	v.text("metadata.annotations["+AnnotationServiceType+"]", g.Annotations[AnnotationServiceType])
	v.count("spec.listeners", len(g.Spec.Listeners), maxListeners)
	names := map[gatewayv1.SectionName]bool{}
	for i, l := range g.Spec.Listeners[:min(len(g.Spec.Listeners), maxListeners)] {
		at := fmt.Sprintf("spec.listeners[%d]", i)
		v.must(isSubdomain, at+".name", string(l.Name), "name of a listener")
		v.port(at+".port", l.Port)
		v.must(isText, at+".protocol", string(l.Protocol), "protocol")
		if names[l.Name] {
			v.refuse(at+".name", "%s is there twice", quoted(string(l.Name)))
		}
		names[l.Name] = true
		if l.Hostname != nil {
			v.text(at+".hostname", string(*l.Hostname))
		}
		v.listenerTLS(at+".tls", l.TLS)
		if l.AllowedRoutes != nil {
			v.count(at+".allowedRoutes.kinds", len(l.AllowedRoutes.Kinds), maxRouteKinds)
			for _, k := range l.AllowedRoutes.Kinds[:min(len(l.AllowedRoutes.Kinds), maxRouteKinds)] {
				v.text(at+".allowedRoutes.kinds", string(k.Kind))
			}
			v.routeNamespaces(at+".allowedRoutes.namespaces", l.AllowedRoutes.Namespaces)
		}
	}
	if a := g.Spec.AllowedListeners; a != nil {
		v.routeNamespaces("spec.allowedListeners.namespaces", (*gatewayv1.RouteNamespaces)(a.Namespaces))
	}
	v.count("spec.addresses", len(g.Spec.Addresses), maxAddresses)
	v.count("status.addresses", len(g.Status.Addresses), maxAddresses)
	for i, a := range g.Status.Addresses[:min(len(g.Status.Addresses), maxAddresses)] {
		kind := gatewayv1.IPAddressType
		if a.Type != nil {
			kind = *a.Type
		}
		at := fmt.Sprintf("status.addresses[%d]", i)
		v.text(at+".type", string(kind))
		switch kind {
		case gatewayv1.IPAddressType:
			v.address(at+".value", a.Value)
		case gatewayv1.HostnameAddressType:
			v.must(isHostname, at+".value", a.Value, "hostname that several labels make")
		default:
			v.text(at+".value", a.Value)
		}
	}
	if infra := g.Spec.Infrastructure; infra != nil {
		v.count("spec.infrastructure.labels", len(infra.Labels), maxInfrastructure)
		v.count("spec.infrastructure.annotations", len(infra.Annotations), maxInfrastructure)
	}
}

func (v *vetting) routeNamespaces(at string, n *gatewayv1.RouteNamespaces) {
	if n == nil {
		return
	}
	if n.From != nil {
		v.text(at+".from", string(*n.From))
	}
	if n.Selector == nil {
		return
	}
	at += ".selector"
	v.count(at+".matchLabels", len(n.Selector.MatchLabels), maxSelectorTerms)
	v.count(at+".matchExpressions", len(n.Selector.MatchExpressions), maxSelectorTerms)
	if v.found != nil {
		return // too many terms to look at them all
	}
	for key, value := range n.Selector.MatchLabels {
		v.must(isQualifiedName, at+".matchLabels", key, "label's key")
		v.may(isLabelValue, at+".matchLabels["+printable(key)+"]", value, "label's value")
	}
	for i, e := range n.Selector.MatchExpressions {
		at := fmt.Sprintf("%s.matchExpressions[%d]", at, i)
		v.must(isQualifiedName, at+".key", e.Key, "label's key")
		v.must(isText, at+".operator", string(e.Operator), "operator")
		v.count(at+".values", len(e.Values), maxSelectorValues)
		for _, value := range e.Values[:min(len(e.Values), maxSelectorValues)] {
			v.may(isLabelValue, at+".values", value, "label's value")
		}
	}
}

func (v *vetting) listenerTLS(at string, t *gatewayv1.ListenerTLSConfig) {
	if t == nil {
		return
	}
	if t.Mode != nil {
		v.text(at+".mode", string(*t.Mode))
	}
	v.count(at+".options", len(t.Options), maxInfrastructure)
	for key, value := range t.Options {
		if !isQualifiedName(string(key)) || len(value) > maxOption {
			v.refuse(at+".options", "%s: %s is no option", quoted(string(key)), quoted(string(value)))
		}
	}
}

// protocols are those of Kubernetes' ports; "" is TCP.
var protocols = map[string]bool{"": true, string(corev1.ProtocolTCP): true, string(corev1.ProtocolUDP): true, string(corev1.ProtocolSCTP): true}

func (v *vetting) protocol(field, p string) {
	if !protocols[p] {
		v.refuse(field, "%s is no protocol of a port", quoted(p))
	}
}

func (v *vetting) port(field string, p int32) {
	if !isPort(p) {
		v.refuse(field, "%d is no port", p)
	}
}

// address refuses what can be no other machine's address. See [Claimable].
func (v *vetting) address(field, s string) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		v.refuse(field, "%s is no address", quoted(s))
	} else if !Claimable(a) {
		v.refuse(field, "%s is an address that no other cluster can have", a)
	}
}
