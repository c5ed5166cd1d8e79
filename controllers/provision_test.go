// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"strings"
	"testing"

	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

func TestProvisionedObjectsStayInBounds(t *testing.T) {
	plan := &translate.GatewayPlan{
		Key: world.Key{Cluster: "east", Namespace: "n", Name: "g"}, Class: "eastwest", ServiceAccount: "theirs", ServiceType: "ClusterIP",
		InfraLabels: map[string]string{"a": "b", gatewayNameLabel: "stolen"}, InfraAnnotations: map[string]string{"gateway.networking.k8s.io/x": "y", "c": "d"},
		Addresses: []string{"10.96.0.9"},
	}
	objects := provision(plan, ProvisionSettings{Image: "i", Controller: "c:15012", Config: world.Config{LocalCluster: "east"}})
	if len(objects) != 3 {
		t.Fatalf("%d objects: the ServiceAccount is the user's", len(objects))
	}
	text, err := yaml.Marshal(objects)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"clusterIP: 10.96.0.9", "serviceAccountName: theirs", "gateway-name: g", "a: b", "c: d", "readOnlyRootFilesystem: true", "runAsNonRoot: true"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	for _, not := range []string{"stolen", "gateway.networking.k8s.io/x"} {
		if strings.Contains(string(text), not) {
			t.Errorf("%q is in\n%s", not, text)
		}
	}
}

// TestPoliciesKnowTheLabelsOfGatewayPods: what translation takes for the labels of a Gateway's pods, by which policies select them, is on them.
func TestPoliciesKnowTheLabelsOfGatewayPods(t *testing.T) {
	plan := &translate.GatewayPlan{
		Key: world.Key{Cluster: "east", Namespace: "n", Name: "g"}, Class: "eastwest", Network: "net", ServiceAccount: "g", ServiceType: "ClusterIP",
		InfraLabels: map[string]string{"team": "net", gatewayNameLabel: "stolen", translate.LabelManagedBy: "somebody"},
	}
	deployments := 0
	for _, o := range provision(plan, ProvisionSettings{Image: "i", Controller: "c:15012", Config: world.Config{LocalCluster: "east"}}) {
		d, ok := o.(*appsv1ac.DeploymentApplyConfiguration)
		if !ok {
			continue
		}
		deployments++
		want := translate.GatewayPodLabels("g", "eastwest", "net", plan.InfraLabels)
		if len(want) < 6 {
			t.Errorf("only %v", want)
		}
		for k, v := range want {
			if got := d.Spec.Template.Labels[k]; got != v {
				t.Errorf("label %s of the pods is %q, and policies take it for %q", k, got, v)
			}
		}
	}
	if deployments != 1 {
		t.Errorf("%d deployments", deployments)
	}
}
