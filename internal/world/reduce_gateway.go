// SPDX-License-Identifier: Apache-2.0

package world

import (
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// maxListeners is Gateway API's own limit of listeners in one Gateway.
const maxListeners = 64

// ReduceGatewayClass keeps whose it is.
func ReduceGatewayClass(c Cluster, g *gatewayv1.GatewayClass) *GatewayClass {
	return &GatewayClass{
		Key:           Key{c, "", g.Name},
		Generation:    g.Generation,
		Controller:    string(g.Spec.ControllerName),
		HasParameters: g.Spec.ParametersRef != nil,

		InboundBinding: bounded(g.Annotations[AnnotationInboundBinding]),
	}
}

// ReduceGateway keeps what gateways are made of.
func ReduceGateway(c Cluster, g *gatewayv1.Gateway) *Gateway {
	out := &Gateway{
		Key:            Key{c, g.Namespace, g.Name},
		UID:            string(g.UID),
		Generation:     g.Generation,
		Deleting:       g.DeletionTimestamp != nil,
		Class:          string(g.Spec.GatewayClassName),
		Network:        boundedLabels(g.Labels)[LabelNetwork],
		WaypointFor:    bounded(g.Labels[LabelWaypointFor]),
		InboundBinding: bounded(g.Annotations[AnnotationInboundBinding]),
		ServiceAccount: bounded(g.Annotations[AnnotationServiceAccount]),
		ServiceType:    bounded(g.Annotations[AnnotationServiceType]),
	}
	if !g.CreationTimestamp.IsZero() {
		out.Created = g.CreationTimestamp.Unix()
	}
	for _, l := range g.Spec.Listeners {
		if len(out.Listeners) == maxListeners {
			break
		}
		out.Listeners = append(out.Listeners, reduceListener(g.Namespace, l))
	}
	if a := g.Spec.AllowedListeners; a != nil && a.Namespaces != nil {
		out.SetsFrom, out.SetNamespaces = or(a.Namespaces.From, ""), plainSelector(a.Namespaces.Selector)
	}
	for _, a := range g.Spec.Addresses {
		if len(out.Addresses) == maxAddresses {
			break
		}
		address := reduceGatewayAddress(a.Type, a.Value)
		address.Routability = bounded(string(a.Routability))
		out.Addresses = append(out.Addresses, address)
	}
	for _, a := range g.Status.Addresses {
		if len(out.Status) == maxAddresses {
			break
		}
		out.Status = append(out.Status, reduceGatewayAddress(a.Type, a.Value))
	}
	out.reduceTLS(g.Spec.TLS)
	if infra := g.Spec.Infrastructure; infra != nil {
		if ref := infra.ParametersRef; ref != nil {
			if ref.Group == "" && ref.Kind == "ConfigMap" && isSubdomain(ref.Name) {
				out.Parameters = ref.Name
			} else {
				out.HasParameters = true
			}
		}
		for k, v := range infra.Labels {
			if out.InfraLabels == nil {
				out.InfraLabels = make(map[string]string, len(infra.Labels))
			}
			out.InfraLabels[string(k)] = string(v)
		}
		for k, v := range infra.Annotations {
			if out.InfraAnnotations == nil {
				out.InfraAnnotations = make(map[string]string, len(infra.Annotations))
			}
			out.InfraAnnotations[string(k)] = string(v)
		}
	}
	return out
}

func reduceListener(namespace string, l gatewayv1.Listener) Listener {
	out := Listener{Name: string(l.Name), Protocol: string(l.Protocol), HasFilters: l.Filters != nil && len(l.Filters.Requests) > 0}
	if isPort(l.Port) {
		out.Port = uint16(l.Port)
	}
	if l.Hostname != nil {
		out.Hostname = strings.ToLower(string(*l.Hostname))
	}
	if l.TLS != nil {
		out.HasTLS = true
		out.TLSMode = string(gatewayv1.TLSModeTerminate)
		if l.TLS.Mode != nil {
			out.TLSMode = string(*l.TLS.Mode)
		}
		out.Certificates = reduceCertificateRefs(namespace, l.TLS.CertificateRefs)
		for k, v := range l.TLS.Options {
			if out.TLSOptions == nil {
				out.TLSOptions = make(map[string]string, len(l.TLS.Options))
			}
			out.TLSOptions[string(k)] = string(v)
		}
	}
	if l.AllowedRoutes != nil && l.AllowedRoutes.Namespaces != nil {
		if from := l.AllowedRoutes.Namespaces.From; from != nil {
			out.RoutesFrom = string(*from)
		}
		out.RouteNamespaces = plainSelector(l.AllowedRoutes.Namespaces.Selector)
	}
	if l.AllowedRoutes != nil {
		for _, k := range l.AllowedRoutes.Kinds {
			group := gatewayv1.GroupName
			if k.Group != nil {
				group = string(*k.Group)
			}
			out.RouteKinds = append(out.RouteKinds, group+"/"+string(k.Kind))
		}
	}
	return out
}

// plainSelector keeps a selector of Kubernetes' own form. One beyond bounds is cut off, which makes it match more, so it is made to
// match nothing instead.
func plainSelector(s *metav1.LabelSelector) *Selector {
	if s == nil {
		return nil
	}
	long := func(e metav1.LabelSelectorRequirement) bool { return len(e.Values) > maxSelectorValues }
	if len(s.MatchLabels) > maxSelectorTerms || len(s.MatchExpressions) > maxSelectorTerms || slices.ContainsFunc(s.MatchExpressions, long) {
		return &Selector{Requirements: []Requirement{{Operator: "TooLong"}}}
	}
	out := &Selector{MatchLabels: maps.Clone(s.MatchLabels)}
	for _, e := range s.MatchExpressions {
		out.Requirements = append(out.Requirements, Requirement{Key: e.Key, Operator: string(e.Operator), Values: slices.Clone(e.Values)})
	}
	return out
}

func reduceGatewayAddress(kind *gatewayv1.AddressType, value string) GatewayAddress {
	out := GatewayAddress{Type: string(gatewayv1.IPAddressType), Value: bounded(value)}
	if kind != nil {
		out.Type = string(*kind)
	}
	if out.Type == string(gatewayv1.HostnameAddressType) {
		out.Value = hostname(value)
	}
	return out
}

// hostname is how a name is written where it is compared with others: in small letters, and without the last dot. Nobody passes for somebody else's, or for none, by how he writes it.
func hostname(name string) string {
	return strings.TrimSuffix(strings.ToLower(bounded(name)), ".")
}
