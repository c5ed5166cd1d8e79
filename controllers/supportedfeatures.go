// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	_ "embed"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

//go:embed supportedfeatures.txt
var supportedFeaturesText string

//go:embed meshfeatures.txt
var meshFeaturesText string

// supportedFeatures are what GatewayClasses publish, and meshFeatures what XMeshes do, sorted by name as the API wants them.
var supportedFeatures, meshFeatures = readFeatures(supportedFeaturesText), readFeatures(meshFeaturesText)

// readFeatures reads a name a line; lines that begin with # say something else.
func readFeatures(text string) []gatewayv1.SupportedFeature {
	var out []gatewayv1.SupportedFeature
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			out = append(out, gatewayv1.SupportedFeature{Name: gatewayv1.FeatureName(line)})
		}
	}
	return out
}
