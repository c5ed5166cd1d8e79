// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
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

// definitions names the CRDs of the Gateway API whose kinds we read, as config/rbac does.
var definitions = []string{
	"backendtlspolicies", "gatewayclasses", "gateways", "grpcroutes", "httproutes", "listenersets", "referencegrants", "tcproutes", "tlsroutes", "udproutes",
}

// versionsEvery is how soon the versions are read again. They are not watched: a watch that is refused, as by a ClusterRole that is older than the image, would end the process.
var versionsEvery = 2 * time.Minute

// definition is the shape in which the CRD of some resources of the Gateway API is read.
func definition(resources string) *metav1.PartialObjectMetadata {
	o := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: resources + "." + gatewayv1.GroupName}}
	o.SetGroupVersionKind(definitionKind)
	return o
}

// installedVersion reads which Gateway API the cluster has, and says whether it is the one that we know; Unknown if that cannot be read.
func installedVersion(ctx context.Context, reader client.Reader) metav1.Condition {
	var installed []*metav1.PartialObjectMetadata
	for _, resources := range definitions {
		d := definition(resources)
		err := reader.Get(ctx, client.ObjectKeyFromObject(d), d)
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			return unknownVersion(err)
		default:
			installed = append(installed, d)
		}
	}
	return judgeVersions(installed)
}

// unknownVersion is the condition SupportedVersion while CRDs cannot be read. It has no text of the error's: one that is another each time would have the status written without end.
func unknownVersion(err error) metav1.Condition {
	return metav1.Condition{
		Type: string(gatewayv1.GatewayClassConditionStatusSupportedVersion), Status: metav1.ConditionUnknown, Reason: "NotReadable",
		Message: fmt.Sprintf("the controller cannot read the CRDs of the Gateway API (%s), whose versions its ClusterRole lets it get: what is known of them is served",
			cmp.Or(string(apierrors.ReasonForError(err)), "no answer of the API server's")),
	}
}

// judgeVersions is the condition SupportedVersion of our classes: false as soon as one CRD of the Gateway API has no version, or one whose major and minor are not those of the API
// that we were built with. It says nothing else, as what those CRDs have is served as far as it is known.
func judgeVersions(installed []*metav1.PartialObjectMetadata) metav1.Condition {
	ours := version.MustParseSemantic(consts.BundleVersion)
	var versions, unknown []string
	for _, d := range installed {
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
