// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"strings"
	"testing"

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
