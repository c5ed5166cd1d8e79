// SPDX-License-Identifier: Apache-2.0

package world

import (
	"maps"
	"slices"

	istiosecurity "istio.io/api/security/v1beta1"
	istiotype "istio.io/api/type/v1beta1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
)

// maxTargets is how many targetRefs of a policy are looked at: the CRD's own limit.
const maxTargets = 16

// maxOddPorts is how many ports that are none are kept to be named: enough to find the mistake.
const maxOddPorts = 8

// ReduceAuthorizationPolicy keeps what can be decided, and where more was asked for.
func ReduceAuthorizationPolicy(c Cluster, p *securityv1.AuthorizationPolicy) *AuthorizationPolicy {
	out := &AuthorizationPolicy{
		Key:        Key{c, p.Namespace, p.Name},
		Generation: p.Generation,
		Selector:   selectorLabels(p.Spec.GetSelector()),
		HasTargets: p.Spec.GetTargetRef() != nil || len(p.Spec.GetTargetRefs()) > 0,
		Action:     p.Spec.GetAction().String(),
		DryRun:     p.Annotations[AnnotationDryRun] == "true",
	}
	for _, t := range append(slices.Clone(p.Spec.GetTargetRefs()), p.Spec.GetTargetRef()) {
		if t != nil && len(out.Targets) < maxTargets {
			out.Targets = append(out.Targets, PolicyTarget{Group: t.GetGroup(), Kind: t.GetKind(), Name: t.GetName()})
		}
	}
	for _, r := range p.Spec.GetRules() {
		if r != nil {
			out.Rules = append(out.Rules, reduceRule(r))
		}
	}
	return out
}

func reduceRule(r *istiosecurity.Rule) PolicyRule {
	var out PolicyRule
	for _, f := range r.GetFrom() {
		s := f.GetSource()
		out.From = append(out.From, PolicySource{
			Principals:         slices.Clone(s.GetPrincipals()),
			NotPrincipals:      slices.Clone(s.GetNotPrincipals()),
			Namespaces:         slices.Clone(s.GetNamespaces()),
			NotNamespaces:      slices.Clone(s.GetNotNamespaces()),
			ServiceAccounts:    slices.Clone(s.GetServiceAccounts()),
			NotServiceAccounts: slices.Clone(s.GetNotServiceAccounts()),
			IPBlocks:           slices.Clone(s.GetIpBlocks()),
			NotIPBlocks:        slices.Clone(s.GetNotIpBlocks()),
			TrustDomains:       slices.Clone(s.GetTrustDomains()),
			NotTrustDomains:    slices.Clone(s.GetNotTrustDomains()),
			Foreign: len(s.GetRequestPrincipals())+len(s.GetNotRequestPrincipals())+len(s.GetRemoteIpBlocks())+
				len(s.GetNotRemoteIpBlocks()) > 0,
		})
	}
	for _, t := range r.GetTo() {
		o := t.GetOperation()
		out.To = append(out.To, PolicyOperation{
			Ports: slices.Clone(o.GetPorts()), NotPorts: slices.Clone(o.GetNotPorts()),
			Hosts: slices.Clone(o.GetHosts()), NotHosts: slices.Clone(o.GetNotHosts()),
			Methods: slices.Clone(o.GetMethods()), NotMethods: slices.Clone(o.GetNotMethods()),
			Paths: slices.Clone(o.GetPaths()), NotPaths: slices.Clone(o.GetNotPaths()),
		})
	}
	for _, w := range r.GetWhen() {
		out.When = append(out.When, PolicyCondition{
			Key: w.GetKey(), Values: slices.Clone(w.GetValues()), NotValues: slices.Clone(w.GetNotValues()),
		})
	}
	return out
}

// ReducePeerAuthentication keeps the modes, and what was asked for that is none.
func ReducePeerAuthentication(c Cluster, p *securityv1.PeerAuthentication) *PeerAuthentication {
	out := &PeerAuthentication{
		Key:        Key{c, p.Namespace, p.Name},
		Generation: p.Generation,
		Selector:   selectorLabels(p.Spec.GetSelector()),
		Mode:       p.Spec.GetMtls().GetMode().String(),
	}
	if !p.CreationTimestamp.IsZero() {
		out.Created = p.CreationTimestamp.Unix()
	}
	for port, m := range p.Spec.GetPortLevelMtls() {
		if port < 1 || port > 65535 {
			out.OddPorts = append(out.OddPorts, port)
			continue
		}
		if out.Ports == nil {
			out.Ports = map[uint16]string{}
		}
		out.Ports[uint16(port)] = m.GetMode().String()
	}
	slices.Sort(out.OddPorts)
	out.OddPorts = out.OddPorts[:min(len(out.OddPorts), maxOddPorts)]
	return out
}

func selectorLabels(s *istiotype.WorkloadSelector) map[string]string {
	return maps.Clone(s.GetMatchLabels())
}
