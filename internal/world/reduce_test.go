// SPDX-License-Identifier: Apache-2.0

package world

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
	istiosecurity "istio.io/api/security/v1beta1"
	istiotype "istio.io/api/type/v1beta1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func ptr[T any](v T) *T { return &v }

var addrs = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func TestReducePod(t *testing.T) {
	pod := func(change func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: "web-5d4-abcde", Labels: map[string]string{"app": "web"}},
			Spec:       corev1.PodSpec{NodeName: "n1", ServiceAccountName: "web"},
			Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}},
				Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
		}
		if change != nil {
			change(p)
		}
		return p
	}
	owned := func(kind, name string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.OwnerReferences = []metav1.OwnerReference{{Kind: kind, Name: name, Controller: ptr(true)}}
			p.Labels["pod-template-hash"] = "5d4"
		}
	}
	for _, tc := range []struct {
		what string
		in   *corev1.Pod
		want func(*Pod) // change of the ordinary value; nil: absent
	}{
		{"ordinary", pod(nil), func(*Pod) {}},
		{"failed", pod(func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }), nil},
		{"succeeded", pod(func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }), nil},
		{"not ready", pod(func(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionUnknown }), func(p *Pod) { p.Ready = false }},
		{"deleting", pod(func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }), func(p *Pod) { p.Deleting = true }},
		{"node proxy", pod(func(p *corev1.Pod) { p.Labels["app"], p.Status.Phase = "isthmus-nodeproxy", corev1.PodRunning }), func(p *Pod) {
			p.Labels["app"], p.NodeProxy = "isthmus-nodeproxy", NodeProxyPlain
		}},
		{"node proxy that confines", pod(func(p *corev1.Pod) {
			p.Labels["app"], p.Status.Phase, p.Annotations = "isthmus-nodeproxy", corev1.PodRunning, map[string]string{AnnotationConfines: "true"}
		}), func(p *Pod) { p.Labels["app"], p.NodeProxy = "isthmus-nodeproxy", NodeProxyConfines }},
		{"node proxy that has not begun", pod(func(p *corev1.Pod) {
			p.Labels["app"], p.Status.Phase, p.Annotations = "isthmus-nodeproxy", corev1.PodPending, map[string]string{AnnotationConfines: "true"}
		}), func(p *Pod) { p.Labels["app"] = "isthmus-nodeproxy" }},
		{"no node proxy, whatever it says", pod(func(p *corev1.Pod) { p.Annotations = map[string]string{AnnotationConfines: "true"} }), func(*Pod) {}},
		{"captured", pod(func(p *corev1.Pod) { p.Annotations = map[string]string{AnnotationRedirection: "enabled"} }), func(p *Pod) { p.Captured = true }},
		{"capture pending", pod(func(p *corev1.Pod) { p.Annotations = map[string]string{AnnotationRedirection: "pending"} }), func(*Pod) {}},
		{"no account", pod(func(p *corev1.Pod) { p.Spec.ServiceAccountName = "" }), func(p *Pod) { p.ServiceAccount = "default" }},
		{"of a Deployment", pod(owned("ReplicaSet", "web-5d4")), func(p *Pod) {
			p.Labels["pod-template-hash"], p.WorkloadName, p.WorkloadKind = "5d4", "web", mesh.KindDeployment
		}},
		{"of a CronJob", pod(owned("Job", "night-28312345")), func(p *Pod) {
			p.Labels["pod-template-hash"], p.WorkloadName, p.WorkloadKind = "5d4", "night", mesh.KindCronJob
		}},
		{"of a Job", pod(owned("Job", "once-1")), func(p *Pod) {
			p.Labels["pod-template-hash"], p.WorkloadName, p.WorkloadKind = "5d4", "once-1", mesh.KindJob
		}},
		{"dangerous addresses", pod(func(p *corev1.Pod) {
			p.Status.PodIPs = []corev1.PodIP{{IP: "127.0.0.1"}, {IP: "169.254.169.254"}, {IP: "::1"}, {IP: "224.0.0.1"}, {IP: "0.0.0.0"}, {IP: "fe80::1%eth0"}, {IP: "nonsense"}, {IP: "::ffff:10.0.0.7"}, {IP: "fd00::7"}}
		}), func(p *Pod) {
			p.Addresses = []netip.Addr{netip.MustParseAddr("10.0.0.7"), netip.MustParseAddr("fd00::7")}
		}},
	} {
		got := ReducePod("west", tc.in)
		if tc.want == nil {
			if got != nil {
				t.Errorf("%s: %+v, want absent", tc.what, got)
			}
			continue
		}
		want := &Pod{Key: Key{"west", "demo", "web-5d4-abcde"}, Labels: map[string]string{"app": "web"}, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")},
			Node: "n1", ServiceAccount: "web", Ready: true, WorkloadName: "web-5d4-abcde", WorkloadKind: mesh.KindPod}
		tc.want(want)
		if diff := cmp.Diff(want, got, addrs); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.what, diff)
		}
	}
}

func TestReduceService(t *testing.T) {
	got := ReduceService("east", &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: "web", CreationTimestamp: metav1.Unix(77, 0)},
		Spec: corev1.ServiceSpec{
			ClusterIP: "10.96.0.1", ClusterIPs: []string{"10.96.0.1", "fd00::1"}, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol},
			TrafficDistribution: ptr("PreferClose"), InternalTrafficPolicy: ptr(corev1.ServiceInternalTrafficPolicyLocal), PublishNotReadyAddresses: true,
			Ports: []corev1.ServicePort{
				{Name: "http-web", Port: 80, TargetPort: intstr.FromString("web")},
				{Name: "x", Port: 81, AppProtocol: ptr("kubernetes.io/h2c"), TargetPort: intstr.FromInt32(8081)},
				{Name: "same", Port: 82},
				{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP},
				{Name: "far", Port: 70000},
				{Name: "http-odd", Port: 83, AppProtocol: ptr("example.com/odd"), TargetPort: intstr.FromInt32(83)},
				{Name: "iana", Port: 84, AppProtocol: ptr("mysql"), TargetPort: intstr.FromInt32(84)},
				{Name: "wss", Port: 86, AppProtocol: ptr("kubernetes.io/wss"), TargetPort: intstr.FromInt32(86)},
				{Name: "https-named", Port: 87},
				{Name: "at-nodes", Port: 30443, NodePort: 30443},
				{Name: "elsewhere", Port: 30080, NodePort: 31080},
				{Name: "tcp", Port: 30053, NodePort: 30053},
				{Name: "udp", Port: 30053, NodePort: 31053, Protocol: corev1.ProtocolUDP},
				{Name: "odd-dns", Port: 85, Protocol: corev1.ProtocolUDP, AppProtocol: ptr("example.com/odd"), TargetPort: intstr.FromInt32(85)},
			},
		},
		Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: "203.0.113.1"}, {IP: "2001:DB8:0::1"}, {Hostname: "LB."}, {}}}},
	})
	want := &Service{
		Key: Key{"east", "demo", "web"}, Addresses: []netip.Addr{netip.MustParseAddr("10.96.0.1"), netip.MustParseAddr("fd00::1")},
		Families: mesh.FamiliesDual, NodeLocal: true, Distribution: "PreferClose", NotReady: true, Ingress: []string{"203.0.113.1", "2001:db8::1", "lb"}, Type: "ClusterIP",
		Ports:    []ServicePort{{"http-web", 80, 0, mesh.AppHTTP11}, {"x", 81, 8081, mesh.AppHTTP2}, {"same", 82, 82, mesh.AppUnknown}, {"http-odd", 83, 83, mesh.AppUnknown}, {"iana", 84, 84, mesh.AppUnknown}, {"wss", 86, 86, mesh.AppTLS}, {"https-named", 87, 87, mesh.AppTLS}, {"at-nodes", 30443, 30443, mesh.AppUnknown}, {"elsewhere", 30080, 30080, mesh.AppUnknown}, {"tcp", 30053, 30053, mesh.AppTCP}},
		UDPPorts: []ServicePort{{"dns", 53, 53, mesh.AppUnknown}, {"udp", 30053, 30053, mesh.AppUnknown}, {"odd-dns", 85, 85, mesh.AppUnknown}}, Unspoken: []uint16{83}, AsksTLS: []uint16{86}, AtNodes: []uint16{30443},
	}
	if diff := cmp.Diff(want, got, addrs); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestReduceEndpointSlice(t *testing.T) {
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "demo", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr("http"), Port: ptr(int32(8080))}, {Name: ptr("all")}, {Name: ptr("dns"), Port: ptr(int32(53)), Protocol: ptr(corev1.ProtocolUDP)}},
		Endpoints: []discoveryv1.Endpoint{
			{Addresses: []string{"10.0.0.1"}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "demo", Name: "a"}, NodeName: ptr("n1")},
			{Addresses: []string{"10.0.0.2"}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "other", Name: "stolen"}},
			{Addresses: []string{"192.0.2.1"}, NodeName: ptr("n2"), Conditions: discoveryv1.EndpointConditions{Ready: ptr(false)}},
			{Addresses: []string{"169.254.169.254"}},
		},
	}
	want := &EndpointSlice{
		Key: Key{"east", "demo", "web-1"}, Service: "web", Ports: []EndpointPort{{"http", 8080}}, UDPPorts: []EndpointPort{{"dns", 53}},
		Endpoints: []Endpoint{{Pod: "a"}, {Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Node: "n2"}},
	}
	if diff := cmp.Diff(want, ReduceEndpointSlice("east", slice), addrs); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	names := slice.DeepCopy()
	names.AddressType = discoveryv1.AddressTypeFQDN
	orphan := slice.DeepCopy()
	orphan.Labels = nil
	for _, s := range []*discoveryv1.EndpointSlice{names, orphan} {
		if got := Reduce("east", s); got != nil {
			t.Errorf("Reduce gave %+v, want absent", got)
		}
	}
}

func TestReducePolicyMarksWhatNobodyKnows(t *testing.T) {
	got := ReduceAuthorizationPolicy("east", &securityv1.AuthorizationPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: "p"},
		Spec: istiosecurity.AuthorizationPolicy{
			Action: istiosecurity.AuthorizationPolicy_DENY, Selector: &istiotype.WorkloadSelector{MatchLabels: map[string]string{"app": "web"}},
			Rules: []*istiosecurity.Rule{nil, {
				From: []*istiosecurity.Rule_From{{Source: &istiosecurity.Source{Namespaces: []string{"a"}, TrustDomains: []string{"x"}, RequestPrincipals: []string{"*"}}}, {}},
				To:   []*istiosecurity.Rule_To{{Operation: &istiosecurity.Operation{Ports: []string{"80"}}}, {Operation: &istiosecurity.Operation{Paths: []string{"/"}}}},
				When: []*istiosecurity.Condition{{Key: "source.ip", Values: []string{"10.0.0.1"}}},
			}},
		},
	})
	want := &AuthorizationPolicy{
		Key: Key{"east", "demo", "p"}, Action: "DENY", Selector: map[string]string{"app": "web"},
		Rules: []PolicyRule{{
			From: []PolicySource{{Namespaces: []string{"a"}, TrustDomains: []string{"x"}, Foreign: true}, {}},
			To:   []PolicyOperation{{Ports: []string{"80"}}, {Paths: []string{"/"}}},
			When: []PolicyCondition{{Key: "source.ip", Values: []string{"10.0.0.1"}}},
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestBounds shows one object of each kind that holds far more than an API server would let through.
func TestBounds(t *testing.T) {
	labels := map[string]string{}
	for i := range 10000 {
		labels[fmt.Sprintf("l%d", i)] = "x"
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "p", Labels: labels}}
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "s", Labels: labels}}
	slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: "e", Labels: map[string]string{discoveryv1.LabelServiceName: "s"}}, AddressType: discoveryv1.AddressTypeIPv4}
	scope := &v1alpha1.ServiceScope{}
	gateway := &gatewayv1.Gateway{}
	for i := range 5000 {
		ip := fmt.Sprintf("10.0.%d.%d", i/250, 1+i%250)
		pod.Status.PodIPs = append(pod.Status.PodIPs, corev1.PodIP{IP: ip})
		service.Spec.Ports = append(service.Spec.Ports, corev1.ServicePort{Port: int32(i + 1)})
		service.Status.LoadBalancer.Ingress = append(service.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip})
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{ip}})
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Port: ptr(int32(i + 1))})
		scope.Spec.ServiceScopeConfigs = append(scope.Spec.ServiceScopeConfigs, v1alpha1.ServiceScopeConfig{Scope: v1alpha1.ScopeGlobal})
		gateway.Spec.Listeners = append(gateway.Spec.Listeners, gatewayv1.Listener{Port: 1})
		gateway.Status.Addresses = append(gateway.Status.Addresses, gatewayv1.GatewayStatusAddress{Value: ip})
	}
	p, s, e := ReducePod("w", pod), ReduceService("w", service), ReduceEndpointSlice("w", slice)
	sc, g := ReduceServiceScope("w", scope), ReduceGateway("w", gateway)
	for what, n := range map[string][2]int{
		"pod labels": {len(p.Labels), maxLabels}, "pod addresses": {len(p.Addresses), maxAddresses}, "service labels": {len(s.Labels), maxLabels},
		"service ports": {len(s.Ports), maxPorts}, "ingress": {len(s.Ingress), maxAddresses}, "slice endpoints": {len(e.Endpoints), maxEndpoints},
		"slice ports": {len(e.Ports), maxPorts}, "scope entries": {len(sc.Entries), maxScopeEntries}, "listeners": {len(g.Listeners), maxListeners},
		"gateway addresses": {len(g.Status), maxAddresses},
	} {
		if n[0] > n[1] {
			t.Errorf("%s: %d kept, more than %d", what, n[0], n[1])
		}
	}
}

// TestNamesOfOthers: names become parts of hostnames, identities and keys. An API server that is not ours may send any.
func TestNamesOfOthers(t *testing.T) {
	long := strings.Repeat("a", 64)
	for _, name := range []string{"", "Web", "a_b", "a.b", "a/b", "-a", "a-", "a b", long, "ä"} {
		if s := ReduceService("w", &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: name}}); s != nil {
			t.Errorf("Service %q is kept", name)
		}
		if s := Reduce("w", &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "s"}}); s != nil {
			t.Errorf("a Service of namespace %q is kept", name)
		}
		if p := Reduce("w", &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "p"}}); p != nil {
			t.Errorf("a pod of namespace %q is kept", name)
		}
	}
	for _, account := range []string{"x/sa/y", "A", strings.Repeat("a", 254), "../a"} {
		if p := ReducePod("w", &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "p"}, Spec: corev1.PodSpec{ServiceAccountName: account}}); p != nil {
			t.Errorf("a pod of service account %q is kept", account)
		}
	}
	if p := ReducePod("w", &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "p"}, Spec: corev1.PodSpec{ServiceAccountName: "a.b-1"}}); p == nil {
		t.Error("a pod of service account a.b-1 is not kept")
	}
	for network, want := range map[string]string{"east": "east", "East_1.x": "East_1.x", "a/10.0.0.1": "", "a b": "", long: ""} {
		labels := map[string]string{LabelNetwork: network}
		if n := ReduceNamespace("w", &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: labels}}); n.Labels[LabelNetwork] != want {
			t.Errorf("network %q of a namespace is read as %q", network, n.Labels[LabelNetwork])
		}
		if g := ReduceGateway("w", &gatewayv1.Gateway{ObjectMeta: metav1.ObjectMeta{Name: "g", Labels: labels}}); g.Network != want {
			t.Errorf("network %q of a Gateway is read as %q", network, g.Network)
		}
	}
}

// FuzzReduce gives whatever JSON a remote API server may send to [Vet] and to every reducer. None may panic, the same object must give
// the same value twice, and a refusal must be fit for a status.
func FuzzReduce(f *testing.F) {
	f.Add([]byte(`{"metadata":{"name":"a","namespace":"b","labels":{"kubernetes.io/service-name":"s"}},"spec":{"clusterIP":"None","ports":[{"port":80,"targetPort":"x"}]},"addressType":"IPv4","endpoints":[{"addresses":["10.0.0.1"],"targetRef":{"kind":"Pod"}}],"ports":[{"port":1}]}`))
	f.Add([]byte(`{"spec":{"gatewayClassName":"eastwest","allowedListeners":{"namespaces":{"from":"Selector","selector":{"matchLabels":{"a":"b"}}}},"listeners":[{"name":"m","port":99999,"protocol":"HBONE","tls":{"options":{"a/b":"c"}},"allowedRoutes":{"kinds":[{"kind":"X"}],"namespaces":{"from":"Selector","selector":{"matchLabels":{"a":"b"},"matchExpressions":[{"key":"k","operator":"In","values":["v"]}]}}}}],"infrastructure":{"labels":{"a":"b"}}},"status":{"podIPs":[{"ip":"::ffff:1.2.3.4"}],"addresses":[{"value":"x"}]}}`))
	f.Add([]byte(`{"spec":{"serviceScopeConfigs":[{"scope":"GLOBAL","servicesSelector":{"matchLabels":{"a":"b"},"matchExpressions":[{"key":"k","operator":"In"}]}}],"rules":[null,{"from":[null,{}],"to":[{}],"when":[{}]}],"portLevelMtls":{"0":{},"70000":{}},"import":{"maxServices":-1}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, o := range []any{
			&corev1.Pod{}, &corev1.Service{}, &discoveryv1.EndpointSlice{}, &corev1.Node{}, &corev1.Namespace{}, &gatewayv1.GatewayClass{},
			&gatewayv1.Gateway{}, &v1alpha1.ServiceScope{}, &v1alpha1.RemoteCluster{}, &securityv1.AuthorizationPolicy{}, &securityv1.PeerAuthentication{},
			&gatewayv1.ListenerSet{},
		} {
			if json.Unmarshal(data, o) != nil {
				continue
			}
			if a, b := Reduce("west", o), Reduce("west", o); !reflect.DeepEqual(a, b) {
				t.Fatalf("%T reduces to %+v and to %+v", o, a, b)
			}
			if r := Vet(o); r != nil {
				if said := r.String(); len(said) > 1200 || strings.ContainsFunc(said, func(r rune) bool { return !unicode.IsPrint(r) }) {
					t.Fatalf("%T is refused with %d bytes: %q", o, len(said), said)
				}
			}
		}
	})
}
