// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/version"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/gateway-api/pkg/consts"
)

const (
	// maxNamedDefinitions is how many CRDs a condition names, and maxVersion how many bytes it repeats of what somebody wrote for a version.
	maxNamedDefinitions, maxVersion = 8, 32
)

// definitionKind is the kind of CRDs, of which only the metadata are read: their schemas are half a MiB each.
var definitionKind = schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}

// definition is the shape in which a CRD is read.
func definition() *metav1.PartialObjectMetadata {
	o := &metav1.PartialObjectMetadata{}
	o.SetGroupVersionKind(definitionKind)
	return o
}

// ofGatewayAPI says whether a CRD is one of the Gateway API's, of either of its groups. The API server has CRDs named by their group.
func ofGatewayAPI(o client.Object) bool {
	_, group, _ := strings.Cut(o.GetName(), ".")
	return group == gatewayv1.GroupName || group == "gateway.networking.x-k8s.io"
}

// installedVersion reads which Gateway API the cluster has, and says whether it is the one that we know.
func installedVersion(ctx context.Context, reader client.Reader) (metav1.Condition, error) {
	var all metav1.PartialObjectMetadataList
	all.SetGroupVersionKind(definitionKind.GroupVersion().WithKind(definitionKind.Kind + "List"))
	if err := reader.List(ctx, &all); err != nil {
		return metav1.Condition{}, fmt.Errorf("read the versions of the Gateway API's CRDs: %w", err)
	}
	return judgeVersions(all.Items), nil
}

// judgeVersions is the condition SupportedVersion of our classes: false as soon as one CRD of the Gateway API has no version, or one whose major and minor are not those of the API
// that we were built with. It says nothing else, as what those CRDs have is served as far as it is known.
func judgeVersions(definitions []metav1.PartialObjectMetadata) metav1.Condition {
	ours := version.MustParseSemantic(consts.BundleVersion)
	var versions, unknown []string
	for i := range definitions {
		d := &definitions[i]
		if !ofGatewayAPI(d) {
			continue
		}
		is := d.Annotations[consts.BundleVersionAnnotation]
		v, err := version.ParseSemantic(is)
		if len(is) > maxVersion {
			is = strings.ToValidUTF8(is[:maxVersion], "") + "…"
		}
		if err == nil && v.Major() == ours.Major() && v.Minor() == ours.Minor() {
			versions = append(versions, is)
			continue
		}
		if is == "" {
			is = "no version"
		}
		unknown = append(unknown, fmt.Sprintf("%s (%s)", d.Name, is))
	}
	slices.Sort(versions)
	versions = slices.Compact(versions)
	slices.Sort(unknown)
	supported := fmt.Sprintf("v%d.%d is supported", ours.Major(), ours.Minor())
	kind, no := string(gatewayv1.GatewayClassConditionStatusSupportedVersion), string(gatewayv1.GatewayClassReasonUnsupportedVersion)
	switch {
	case len(unknown) > 0:
		more := ""
		if n := len(unknown) - maxNamedDefinitions; n > 0 {
			unknown, more = unknown[:maxNamedDefinitions], fmt.Sprintf(" and %d more", n)
		}
		has := "no other CRD of it"
		if len(versions) > 0 {
			has = strings.Join(versions, ", ")
		}
		return condition(kind, false, no, fmt.Sprintf("%s of the Gateway API, and the cluster has %s%s beside %s: what is known of these is served", supported, strings.Join(unknown, ", "), more, has))
	case len(versions) == 0:
		return condition(kind, false, no, supported+" of the Gateway API, and the cluster has no CRD of it")
	default:
		return condition(kind, true, string(gatewayv1.GatewayClassReasonSupportedVersion), fmt.Sprintf("the cluster has %s of the Gateway API, and %s", strings.Join(versions, ", "), supported))
	}
}
