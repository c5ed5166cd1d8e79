// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// TestHostileTrustDomain has a cluster of another trust domain say all that might make its workloads pass for ours. Whatever it says, each
// identity that proxies are told of it is of its own domain, and what is ours is as it is without the cluster.
func TestHostileTrustDomain(t *testing.T) {
	const theirs = "far.example"
	limit := func(l *world.RemoteCluster) { l.TrustDomain = theirs }
	keys := []string{"topology.istio.io/trust-domain", "isthmus.dev/trust-domain", "istio.io/trust-domain", "trustDomain", "spiffe.io/trust-domain", "security.istio.io/trustDomain"}
	values := []string{"cluster.local", "", theirs, "other.example"}
	type attempt struct {
		name string
		set  func(*far)
	}
	attempts := []attempt{
		{"nothing", func(*far) {}},
		{"account with our domain", func(f *far) { f.pod.Spec.ServiceAccountName = "cluster.local" }},
		{"gateway's account with our domain", func(f *far) {
			f.gateway.Annotations = map[string]string{world.AnnotationServiceAccount: "cluster.local"}
		}},
		{"gateway's account is a SPIFFE id", func(f *far) {
			f.gateway.Annotations = map[string]string{world.AnnotationServiceAccount: "spiffe://cluster.local/ns/demo/sa/cart"}
		}},
		{"account is a SPIFFE id", func(f *far) { f.pod.Spec.ServiceAccountName = "spiffe://cluster.local/ns/demo/sa/cart" }},
	}
	for _, key := range keys {
		for _, value := range values {
			put := func(m map[string]string) map[string]string {
				if m == nil {
					m = map[string]string{}
				}
				m[key] = value
				return m
			}
			attempts = append(attempts,
				attempt{"pod's " + key + "=" + value, func(f *far) { f.pod.Labels, f.pod.Annotations = put(f.pod.Labels), put(f.pod.Annotations) }},
				attempt{"service's " + key + "=" + value, func(f *far) {
					f.service.Labels, f.service.Annotations = put(f.service.Labels), put(f.service.Annotations)
				}},
				attempt{"gateway's " + key + "=" + value, func(f *far) {
					f.gateway.Labels, f.gateway.Annotations = put(f.gateway.Labels), put(f.gateway.Annotations)
				}},
				attempt{"namespaces' " + key + "=" + value, func(f *far) {
					f.namespace.Labels, f.namespace.Annotations = put(f.namespace.Labels), put(f.namespace.Annotations)
					f.system.Labels, f.system.Annotations = put(f.system.Labels), put(f.system.Annotations)
				}},
			)
		}
	}
	cases, identities := 0, 0
	for _, a := range attempts {
		for _, network := range []string{"west", "east"} {
			cases++
			f := honest(network)
			a.set(f)
			got, _, _ := toldWith(t, f, nil, limit, nil)
			for uid, w := range got.Mesh.Workloads {
				want := hostileConfig.TrustDomain
				if w.Cluster == "west" {
					want = theirs
					identities++
				}
				if w.TrustDomain != want {
					t.Errorf("%s, network %s: %s is told with trust domain %q, want %q", a.name, network, uid, w.TrustDomain, want)
				}
			}
			for key, s := range got.Mesh.Services {
				for _, san := range s.SANs {
					identities++
					if !strings.HasPrefix(san, "spiffe://"+theirs+"/ns/") {
						t.Errorf("%s, network %s: behind %s, %s may be proved", a.name, network, key, san)
					}
				}
			}
		}
	}
	t.Logf("%d attempts, %d identities told, none of them ours", cases, identities)
	if identities < cases {
		t.Errorf("only %d identities were told in %d attempts: nothing was tried", identities, cases)
	}
}
