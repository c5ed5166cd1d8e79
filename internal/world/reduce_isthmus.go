// SPDX-License-Identifier: Apache-2.0

package world

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
)

// Bounds of a ServiceScope: those of its CRD, kept here too because a remote cluster's CRD is not ours.
const (
	maxScopeEntries   = 64
	maxSelectorTerms  = 32
	maxSelectorValues = 64
)

// ReduceServiceScope keeps the rules, unchecked. Beyond the CRD's bounds it cuts off.
func ReduceServiceScope(c Cluster, s *v1alpha1.ServiceScope) *ServiceScope {
	out := &ServiceScope{Key: Key{c, "", s.Name}, Generation: s.Generation, Priority: s.Spec.Priority}
	for _, e := range s.Spec.ServiceScopeConfigs {
		if len(out.Entries) == maxScopeEntries {
			break
		}
		out.Entries = append(out.Entries, ScopeEntry{
			Namespaces: reduceSelector(e.NamespaceSelector),
			Services:   reduceSelector(e.ServicesSelector),
			Scope:      cut(string(e.Scope)),
		})
	}
	return out
}

func reduceSelector(s *v1alpha1.LabelSelector) *Selector {
	if s == nil {
		return nil
	}
	out := &Selector{}
	for _, k := range slices.Sorted(maps.Keys(s.MatchLabels)) {
		if len(out.MatchLabels) == maxSelectorTerms {
			break
		}
		if out.MatchLabels == nil {
			out.MatchLabels = make(map[string]string, len(s.MatchLabels))
		}
		out.MatchLabels[bounded(k)] = cut(string(s.MatchLabels[k]))
	}
	for _, e := range s.MatchExpressions {
		if len(out.Requirements) == maxSelectorTerms {
			break
		}
		r := Requirement{Key: bounded(e.Key), Operator: cut(string(e.Operator))}
		for _, v := range e.Values {
			if len(r.Values) == maxSelectorValues {
				break
			}
			r.Values = append(r.Values, cut(string(v)))
		}
		out.Requirements = append(out.Requirements, r)
	}
	return out
}

// ReduceRemoteCluster keeps the import limits, with defaults filled in.
func ReduceRemoteCluster(c Cluster, r *v1alpha1.RemoteCluster) *RemoteCluster {
	out := &RemoteCluster{
		Key:          Key{c, "", r.Name},
		Generation:   r.Generation,
		ID:           Cluster(r.ClusterID()),
		Network:      r.Spec.Network,
		TrustDomain:  r.Spec.TrustDomain,
		MaxServices:  v1alpha1.DefaultMaxServices,
		MaxEndpoints: v1alpha1.DefaultMaxEndpoints,
	}
	if !r.CreationTimestamp.IsZero() {
		out.Created = r.CreationTimestamp.Unix()
	}
	if in := r.Spec.Import; in != nil {
		out.Namespaces = slices.Clone(in.Namespaces)
		out.Identities = slices.Clone(in.Identities)
		out.Networks = slices.Clone(in.Networks)
		for _, s := range in.PodCIDRs {
			prefix, _ := netip.ParsePrefix(s) // what is none, which the CRD does not let in, holds nothing: it must not be as if nothing were said
			out.PodCIDRs = append(out.PodCIDRs, prefix.Masked())
		}
		if in.MaxServices != nil {
			out.MaxServices = int(*in.MaxServices)
		}
		if in.MaxEndpoints != nil {
			out.MaxEndpoints = int(*in.MaxEndpoints)
		}
	}
	return out
}
