// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"cmp"
	"net/http"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	securityv1 "istio.io/client-go/pkg/apis/security/v1"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
)

// served is a kind that a server has.
type served struct {
	name       string // in paths
	kind       schema.GroupVersionKind
	namespaced bool
}

// resources are what a control plane reads and writes, and what it asks about.
var resources = []served{
	{"namespaces", corev1.SchemeGroupVersion.WithKind("Namespace"), false},
	{"nodes", corev1.SchemeGroupVersion.WithKind("Node"), false},
	{"pods", corev1.SchemeGroupVersion.WithKind("Pod"), true},
	{"services", corev1.SchemeGroupVersion.WithKind("Service"), true},
	{"secrets", corev1.SchemeGroupVersion.WithKind("Secret"), true},
	{"configmaps", corev1.SchemeGroupVersion.WithKind("ConfigMap"), true},
	{"serviceaccounts", corev1.SchemeGroupVersion.WithKind("ServiceAccount"), true},
	{"endpointslices", discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"), true},
	{"deployments", appsv1.SchemeGroupVersion.WithKind("Deployment"), true},
	{"replicasets", appsv1.SchemeGroupVersion.WithKind("ReplicaSet"), true},
	{"poddisruptionbudgets", policyv1.SchemeGroupVersion.WithKind("PodDisruptionBudget"), true},
	{"horizontalpodautoscalers", autoscalingv2.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler"), true},
	{"gatewayclasses", schema.GroupVersion(gatewayv1.GroupVersion).WithKind("GatewayClass"), false},
	{"gateways", schema.GroupVersion(gatewayv1.GroupVersion).WithKind("Gateway"), true},
	{"listenersets", schema.GroupVersion(gatewayv1.GroupVersion).WithKind("ListenerSet"), true},
	{"httproutes", schema.GroupVersion(gatewayv1.GroupVersion).WithKind("HTTPRoute"), true},
	{"grpcroutes", schema.GroupVersion(gatewayv1.GroupVersion).WithKind("GRPCRoute"), true},
	{"tlsroutes", schema.GroupVersion(gatewayv1.GroupVersion).WithKind("TLSRoute"), true},
	{"tcproutes", schema.GroupVersion(gatewayv1.GroupVersion).WithKind("TCPRoute"), true},
	{"udproutes", schema.GroupVersion(gatewayv1.GroupVersion).WithKind("UDPRoute"), true},
	{"referencegrants", schema.GroupVersion(gatewayv1.GroupVersion).WithKind("ReferenceGrant"), true},
	{"backendtlspolicies", schema.GroupVersion(gatewayv1.GroupVersion).WithKind("BackendTLSPolicy"), true},
	{"servicescopes", v1alpha1.GroupVersion.WithKind("ServiceScope"), false},
	{"remoteclusters", v1alpha1.GroupVersion.WithKind("RemoteCluster"), false},
	{"authorizationpolicies", securityv1.SchemeGroupVersion.WithKind("AuthorizationPolicy"), true},
	{"peerauthentications", securityv1.SchemeGroupVersion.WithKind("PeerAuthentication"), true},
	{"tokenreviews", authenticationv1.SchemeGroupVersion.WithKind("TokenReview"), false},
}

// prefix is the path under which a group's version is.
func prefix(gv schema.GroupVersion) string {
	if gv.Group == "" {
		return "/api/" + gv.Version
	}
	return "/apis/" + gv.Group + "/" + gv.Version
}

// target is what a request's path names.
type target struct {
	table           *table
	namespace, name string
	status          bool
}

// target reads a path; false if there is nothing there.
func (s *Server) target(path string) (target, bool) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	var gv schema.GroupVersion
	switch {
	case len(parts) > 2 && parts[0] == "api":
		gv, parts = schema.GroupVersion{Version: parts[1]}, parts[2:]
	case len(parts) > 3 && parts[0] == "apis":
		gv, parts = schema.GroupVersion{Group: parts[1], Version: parts[2]}, parts[3:]
	default:
		return target{}, false
	}
	var t target
	if parts[0] == "namespaces" && len(parts) > 2 && parts[2] != "status" {
		t.namespace, parts = parts[1], parts[2:]
	}
	t.table = s.tables[gv.String()+"/"+parts[0]]
	if len(parts) > 1 {
		t.name = parts[1]
	}
	t.status = len(parts) > 2 && parts[2] == "status"
	return t, t.table != nil
}

// discover answers what there is; it says false for a path that is about something else.
func (s *Server) discover(w http.ResponseWriter, r *http.Request) bool {
	switch path := strings.TrimSuffix(r.URL.Path, "/"); path {
	case "/version":
		answerJSON(w, http.StatusOK, map[string]string{"major": "1", "minor": "37", "gitVersion": "v1.37.0-fleet"})
		return true
	case "/api":
		answerJSON(w, http.StatusOK, metav1.APIVersions{TypeMeta: metav1.TypeMeta{Kind: "APIVersions", APIVersion: "v1"}, Versions: []string{"v1"}})
		return true
	case "/apis":
		list := metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}}
		seen := map[string]bool{}
		for _, r := range resources {
			if r.kind.Group == "" || seen[r.kind.Group] {
				continue
			}
			seen[r.kind.Group] = true
			list.Groups = append(list.Groups, group(r.kind.GroupVersion()))
		}
		answerJSON(w, http.StatusOK, list)
		return true
	default:
		list := metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}}
		for _, r := range resources {
			gv := r.kind.GroupVersion()
			if path == "/apis/"+r.kind.Group {
				answerJSON(w, http.StatusOK, group(gv))
				return true
			}
			if path == prefix(gv) {
				list.GroupVersion = gv.String()
				list.APIResources = append(list.APIResources, metav1.APIResource{
					Name: r.name, SingularName: strings.ToLower(r.kind.Kind), Kind: r.kind.Kind, Namespaced: r.namespaced,
					Verbs: metav1.Verbs{"create", "delete", "get", "list", "patch", "update", "watch"},
				})
			}
		}
		if list.GroupVersion == "" {
			return false
		}
		answerJSON(w, http.StatusOK, list)
		return true
	}
}

func group(gv schema.GroupVersion) metav1.APIGroup {
	v := metav1.GroupVersionForDiscovery{GroupVersion: gv.String(), Version: gv.Version}
	return metav1.APIGroup{
		TypeMeta: metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"},
		Name:     gv.Group, Versions: []metav1.GroupVersionForDiscovery{v}, PreferredVersion: v,
	}
}

// compareStrings compares pairs, the first difference counts.
func compareStrings(pairs ...string) int {
	for i := 0; i < len(pairs); i += 2 {
		if c := cmp.Compare(pairs[i], pairs[i+1]); c != 0 {
			return c
		}
	}
	return 0
}
