// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"encoding/binary"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/translate"
	kube "github.com/isthmus-mesh/isthmus/internal/world"
)

// kubeCluster is a cluster with a shared Gateway, a waypoint, and a service that is everybody's in other clusters.
func kubeCluster() []runtime.Object {
	named := func(namespace, name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: namespace, Name: name}
	}
	labelled := func(m metav1.ObjectMeta, labels ...string) metav1.ObjectMeta {
		m.Labels = map[string]string{}
		for i := 0; i < len(labels); i += 2 {
			m.Labels[labels[i]] = labels[i+1]
		}
		return m
	}
	class := func(name string) *gatewayv1.GatewayClass {
		return &gatewayv1.GatewayClass{ObjectMeta: named("", name), Spec: gatewayv1.GatewayClassSpec{ControllerName: translate.ControllerName}}
	}
	service := func(m metav1.ObjectMeta, ip string) *corev1.Service {
		return &corev1.Service{ObjectMeta: m, Spec: corev1.ServiceSpec{ClusterIP: ip, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}}}
	}
	all := gatewayv1.NamespacesFromAll
	edge := &gatewayv1.Gateway{ObjectMeta: named("shop", "edge"), Spec: gatewayv1.GatewaySpec{
		GatewayClassName: "eastwest",
		Listeners: []gatewayv1.Listener{
			{Name: "http", Port: 80, Protocol: gatewayv1.HTTPProtocolType, AllowedRoutes: &gatewayv1.AllowedRoutes{Namespaces: &gatewayv1.RouteNamespaces{From: &all}}},
		},
		AllowedListeners: &gatewayv1.AllowedListeners{Namespaces: &gatewayv1.ListenerNamespaces{From: &all}},
	}}
	address := gatewayv1.IPAddressType
	waypoint := &gatewayv1.Gateway{
		ObjectMeta: named("shop", "wp"),
		Spec:       gatewayv1.GatewaySpec{GatewayClassName: "waypoint", Listeners: []gatewayv1.Listener{{Name: "mesh", Port: 15008, Protocol: "HBONE"}}},
		Status: gatewayv1.GatewayStatus{
			Addresses:  []gatewayv1.GatewayStatusAddress{{Type: &address, Value: "10.96.1.1"}},
			Conditions: []metav1.Condition{{Type: "Programmed", Status: "True"}},
		},
	}
	return []runtime.Object{
		&corev1.Namespace{ObjectMeta: named("", "shop")}, &corev1.Namespace{ObjectMeta: named("", "tenant")},
		&corev1.Namespace{ObjectMeta: labelled(named("", "isthmus-system"), "topology.istio.io/network", "east")},
		class("eastwest"), class("waypoint"), edge, waypoint,
		service(labelled(named("shop", "wp"), "app.kubernetes.io/managed-by", "isthmus", "gateway.networking.k8s.io/gateway-name", "wp"), "10.96.1.1"),
		service(labelled(named("shop", "cart"), "istio.io/use-waypoint", "wp"), "10.96.0.1"),
		service(labelled(named("tenant", "own"), "istio.io/global", "true"), "10.96.0.2"),
		&v1alpha1.ServiceScope{ObjectMeta: named("", "default"), Spec: v1alpha1.ServiceScopeSpec{ServiceScopeConfigs: []v1alpha1.ServiceScopeConfig{{
			ServicesSelector: &v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"istio.io/global": "true"}}, Scope: "GLOBAL",
		}}}},
	}
}

// translated is what follows from some objects of a cluster.
func translated(objects ...runtime.Object) translate.Output {
	d := kube.NewDelta()
	for _, o := range objects {
		d.Put(kube.Reduce("east", o))
	}
	s := kube.NewState()
	s.Apply(d)
	return translate.Build(s, kube.Config{LocalCluster: "east", TrustDomain: "cluster.local", ClusterDomain: "cluster.local", SystemNamespace: "isthmus-system"})
}

// taken checks that proxies take all that they are told.
func taken(t *testing.T, out translate.Output) {
	t.Helper()
	for k, g := range out.Mesh.Gateways {
		body, _, err := encodeGateway(g, nil)
		if err != nil {
			t.Errorf("Gateway %s cannot be told: %v", k, err)
		} else if _, _, err = decodeGateway(body, nil); err != nil {
			t.Errorf("Gateway %s does not take what it is told: %v", k, err)
		}
	}
	for k, p := range out.Mesh.Policies {
		body, err := encodePolicy(p)
		if err != nil {
			t.Errorf("policy %s cannot be told: %v", k, err)
		} else if _, err = decode(authorizationURL, body); err != nil {
			t.Errorf("policy %s is not taken: %v", k, err)
		}
	}
}

// filler fills values of any type, with what is rather at the edge of what is valid than in its middle.
type filler struct{ *rand.Rand }

// texts are what strings are taken from, besides constants of the API. What the API server would refuse is among them: it is not asked here.
var texts = []string{
	"", "*", "/", "x", "own", "cart", "tenant", "cluster.local", "cluster.local/ns/tenant/sa/a", "a*", "*a", "/a/%2e%2e/b", "/%2F%7e", "{*}", "/{*}/a/{**}", "80", "10s", "10.0.0.0/8", "::ffff:10.0.0.0/90", "::ffff:10.0.0.1",
	"fe80::1%eth0", "example.com", "*.example.com", "request.headers[x-a]", "request.headers[host]", "source.ip", "source.principal", "source.namespace", "destination.port",
	strings.Repeat("x", 253), strings.Repeat("x", 254), "/" + strings.Repeat(" ", 700), "/{*}/" + strings.Repeat(" ", 700), strings.Repeat("x", 2048), strings.Repeat("x", 2049), strings.Repeat("€", 4096), "/" + strings.Repeat("€", 1023),
}

// chosen are what strings of types with a set of constants, or with a strict pattern, are taken from.
var chosen = map[reflect.Type][]string{
	reflect.TypeFor[gatewayv1.PathMatchType]():        {"Exact", "PathPrefix"},
	reflect.TypeFor[gatewayv1.HeaderMatchType]():      {"Exact"},
	reflect.TypeFor[gatewayv1.QueryParamMatchType]():  {"Exact"},
	reflect.TypeFor[gatewayv1.GRPCHeaderMatchType]():  {"Exact"},
	reflect.TypeFor[gatewayv1.GRPCMethodMatchType]():  {"Exact"},
	reflect.TypeFor[gatewayv1.HTTPPathModifierType](): {"ReplaceFullPath", "ReplacePrefixMatch"},
	reflect.TypeFor[gatewayv1.Hostname]():             {"a.example.com", "*.example.com", "*.com"},
	reflect.TypeFor[gatewayv1.PreciseHostname]():      {"a.example.com", strings.Repeat("x", 253)},
	reflect.TypeFor[gatewayv1.Duration]():             {"0s", "10s", "99999h"},
	reflect.TypeFor[gatewayv1.HTTPRouteFilterType]():  {"RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror", "RequestRedirect", "URLRewrite", "CORS"},
	reflect.TypeFor[gatewayv1.GRPCRouteFilterType]():  {"RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror"},
}

func (f filler) fill(v reflect.Value, depth int) {
	switch v.Kind() {
	case reflect.String:
		of := chosen[v.Type()]
		if of == nil {
			of = texts
		}
		v.SetString(of[f.IntN(len(of))])
	case reflect.Bool:
		v.SetBool(f.IntN(2) == 0)
	case reflect.Int32, reflect.Int64, reflect.Int:
		v.SetInt([]int64{0, 1, 80, 301, 404, 500, 65535}[f.IntN(7)])
	case reflect.Pointer:
		if f.IntN(3) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			f.fill(v.Elem(), depth)
		}
	case reflect.Slice:
		n := f.IntN(3)
		if v.Type().Elem().Kind() == reflect.Int && f.IntN(4) == 0 {
			n = 300
		}
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			at := v.Index(i)
			if at.Kind() == reflect.Pointer {
				at.Set(reflect.New(at.Type().Elem()))
				at = at.Elem()
			}
			f.fill(at, depth)
		}
	case reflect.Struct:
		if depth == 0 {
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				f.fill(v.Field(i), depth-1)
			}
		}
	}
}

// filled gives a route of each kind and a policy in a tenant's namespace, which attach where they may do harm to others.
func filled(seed uint64) []runtime.Object {
	f := filler{rand.New(rand.NewPCG(seed, 1))}
	meta := metav1.ObjectMeta{Namespace: "tenant", Name: "odd"}
	ptr := func(s string) *gatewayv1.Namespace { return (*gatewayv1.Namespace)(&s) }
	group, service := gatewayv1.Group(""), gatewayv1.Kind("Service")
	parents := []gatewayv1.ParentReference{{Name: "edge", Namespace: ptr("shop")}, {Group: &group, Kind: &service, Name: "cart", Namespace: ptr("shop")}}
	web, grpc, policy := &gatewayv1.HTTPRoute{ObjectMeta: meta}, &gatewayv1.GRPCRoute{ObjectMeta: meta}, &securityv1.AuthorizationPolicy{ObjectMeta: meta}
	f.fill(reflect.ValueOf(&web.Spec).Elem(), 12)
	f.fill(reflect.ValueOf(&grpc.Spec).Elem(), 12)
	f.fill(reflect.ValueOf(&policy.Spec).Elem(), 12)
	web.Spec.ParentRefs, grpc.Spec.ParentRefs = parents, parents
	policy.Spec.Selector, policy.Spec.TargetRef = nil, nil
	for i, ref := range policy.Spec.TargetRefs {
		if i == 0 {
			ref.Group, ref.Kind, ref.Name, ref.Namespace = "", "Service", "own", ""
		}
	}
	policy.Spec.Action %= 2
	return []runtime.Object{web, grpc, policy}
}

// Whatever a tenant's routes and policies say, gateways and node proxies take what they are told of them.
func FuzzTranslatedIsTaken(f *testing.F) {
	for seed := range uint64(300) {
		f.Add(binary.LittleEndian.AppendUint64(nil, seed))
	}
	f.Fuzz(func(t *testing.T, seed []byte) {
		if len(seed) != 8 {
			return
		}
		taken(t, translated(append(kubeCluster(), filled(binary.LittleEndian.Uint64(seed))...)...))
	})
}

// The seeds reach what they are for: routes that are told to both gateways, with filters, and policies of every kind.
func TestFilledObjectsAreTold(t *testing.T) {
	routes, filters, requests, guards := 0, 0, 0, 0
	for seed := range uint64(100) {
		out := translated(append(kubeCluster(), filled(seed)...)...)
		for _, l := range out.Mesh.Gateways[mesh.GatewayKey{Namespace: "shop", Name: "edge"}].Listeners {
			for _, r := range l.Routes {
				routes++
				for i := range r.Rules {
					if h := r.Rules[i].Filters; !h.Request.Empty() || !h.Response.Empty() || h.CORS != nil || h.Redirect != nil {
						filters++
					}
				}
			}
		}
		for _, of := range out.Mesh.Gateways[mesh.GatewayKey{Namespace: "shop", Name: "edge"}].ServicePolicies {
			guards++
			if len(of.Policies) > 0 && of.Policies[0].AsksRequests() {
				requests++
			}
		}
	}
	t.Logf("routes %d, rules with filters %d, Services with policies %d, with requests in them %d", routes, filters, guards, requests)
	if routes < 20 || filters < 5 || guards < 10 || requests < 5 {
		t.Error("too few to find anything")
	}
}
