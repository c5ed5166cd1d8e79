// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nodeproxy_test

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/isthmus-mesh/isthmus/internal/ca"
	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
	"github.com/isthmus-mesh/isthmus/internal/translate"
	clusters "github.com/isthmus-mesh/isthmus/internal/world"
)

// TestTrustDomainAliases has those at the far ends of tunnels still be who they were under the former name of their trust domain, while policies and services call
// them by the new one.
func TestTrustDomainAliases(t *testing.T) {
	const former = "former.example"
	w := newWorld(t)
	config := clusters.Config{LocalCluster: "east", TrustDomain: trustDomain, TrustDomainAliases: []string{former}, ClusterDomain: "cluster.local", SystemNamespace: "isthmus-system"}
	state := clusters.NewState()
	policy := &clusters.AuthorizationPolicy{
		Key: clusters.Key{Cluster: "east", Namespace: "demo", Name: "clients"}, Action: "ALLOW",
		Rules: []clusters.PolicyRule{{From: []clusters.PolicySource{{Principals: []string{trustDomain + "/ns/demo/sa/client"}}}}},
	}
	state.AuthorizationPolicies[policy.Key] = policy
	policies := translate.Build(state, config).Mesh.Policies
	for _, c := range []*cluster{w.east, w.west} {
		c.view.Apply(mesh.Delta{Policies: policies})
	}
	call := func(step, to, want string) {
		t.Helper()
		got, err := w.client.call(to, "x")
		if want == "" && err == nil || want != "" && (err != nil || got != want) {
			t.Errorf("%s: %s answered %q, %v; want %q", step, to, got, err, want)
		}
	}
	authority, err := ca.NewSigner(w.authority)
	must(t, err)
	elsewhere := mtls.NewSource(signer{authority}, mtls.SourceOptions{Log: logr.Discard()})
	t.Cleanup(elsewhere.Close)
	// asks is a pod of another node, whose proxy proves an identity under the former name.
	asks := func(account string) error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		nc, err := w.plain.dial("10.77.0.3:15008")
		must(t, err)
		defer nc.Close()
		config := elsewhere.Client(mesh.Identity{TrustDomain: former, Namespace: "demo", ServiceAccount: account}, nil)
		config.VerifyConnection = nil // the other end's judgement is what is tested
		secured := tls.Client(hbone.NewTransport(nc), config)
		if err := secured.HandshakeContext(ctx); err != nil {
			return err
		}
		conn, err := hbone.NewClient(secured, hbone.DefaultSettings())
		must(t, err)
		defer conn.Close()
		_, _, err = conn.Open(ctx, "10.77.0.3:8080", nil)
		return err
	}
	const remote = "240.240.0.5:80"
	// Nobody calls before: a tunnel that is kept for further connections stays with whom it was made to.
	now := *w.west.view.Load().Workload("west//Pod/demo/server")
	now.TrustDomain = former
	w.west.view.Apply(mesh.Delta{Workloads: map[string]*mesh.Workload{now.UID: &now}})
	call("the far end is of a domain without roots", remote, "")
	if err := asks("client"); err == nil {
		t.Error("a caller of a domain without roots was let in")
	}
	w.east.log.find(t, `"direction":"inbound"`, `"reason":"TLS_FAILURE"`, former)

	root, _ := pem.Decode(w.authority[ca.RootKey])
	tell := func(aliasOf string) {
		must(t, w.east.certs.Follow(map[string]*mesh.Bundle{former: {TrustDomain: former, Roots: [][]byte{root.Bytes}, AliasOf: aliasOf}}))
	}
	tell("")
	call("the far end is of a friend's domain", remote, "")

	tell(trustDomain)
	call("the far end is under an alias", remote, "west-server "+gatewayPod+" x")
	w.east.log.find(t, `"direction":"outbound"`, `"tunnel":"double-hbone"`, `"peer":"spiffe://former.example/ns/demo/sa/server"`, `"reason":"-"`)
	must(t, asks("client"))
	w.east.log.find(t, `"direction":"inbound"`, `"peer":"spiffe://former.example/ns/demo/sa/client"`, `"status":200`)
	if err := asks("else"); err == nil {
		t.Error("who is not allowed under any name was let in")
	}
	w.east.log.find(t, `"direction":"inbound"`, `"peer":"spiffe://former.example/ns/demo/sa/else"`, `"reason":"DENY"`)
}
