// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

var hostileConfig = world.Config{LocalCluster: "east", TrustDomain: "cluster.local", ClusterDomain: "cluster.local", SystemNamespace: system}

// far is everything that a remote cluster with a global service has, as an honest one says it. Its network is its own, or ours.
type far struct {
	system, namespace *corev1.Namespace
	node              *corev1.Node
	class             *gatewayv1.GatewayClass
	gateway           *gatewayv1.Gateway
	service           *corev1.Service
	pod               *corev1.Pod
	slice             *discoveryv1.EndpointSlice
}

func honest(network string) *far {
	service, pod, slice := app("demo", "cart", "10.9.0.7", "node-1", map[string]string{"istio.io/global": "true"})
	service.Spec.ClusterIP, service.Spec.ClusterIPs = "10.109.0.7", []string{"10.109.0.7"}
	pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.9.0.7", PodIPs: []corev1.PodIP{{IP: "10.9.0.7"}},
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}
	pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "StatefulSet", Name: "cart", UID: "u", Controller: ptr.To(true)}}
	pod.Labels["app"] = "cart"
	gateway := eastwest(system, "eastwest")
	gateway.Status.Addresses = []gatewayv1.GatewayStatusAddress{
		{Type: ptr.To(gatewayv1.IPAddressType), Value: "203.0.113.9"}, {Type: ptr.To(gatewayv1.HostnameAddressType), Value: "lb.far.example.com"},
	}
	return &far{
		system:    &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: system, Labels: map[string]string{networkLabel: network}}},
		namespace: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "demo"}},
		node:      &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", Labels: map[string]string{corev1.LabelTopologyRegion: "eu", corev1.LabelTopologyZone: "eu-1"}}},
		class:     &gatewayv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: "eastwest"}, Spec: gatewayv1.GatewayClassSpec{ControllerName: "isthmus.dev/gateway-controller"}},
		gateway:   gateway, service: service, pod: pod, slice: slice,
	}
}

func (f *far) objects() map[world.Kind][]client.Object {
	return map[world.Kind][]client.Object{
		world.KindNamespace: {f.system, f.namespace}, world.KindNode: {f.node}, world.KindGatewayClass: {f.class}, world.KindGateway: {f.gateway},
		world.KindService: {f.service}, world.KindPod: {f.pod}, world.KindEndpointSlice: {f.slice}, world.KindServiceScope: {defaultScope()},
	}
}

// told is what proxies of east would be told, and what its users, of a remote cluster that says this. Objects in without are left out.
func told(t *testing.T, f *far, without client.Object) (translate.Output, refusedFacts, int) {
	t.Helper()
	return toldWith(t, f, without, nil, nil)
}

// toldWith is told with limits that differ from the usual ones, and with another cluster, if any, that was linked before.
func toldWith(t *testing.T, f *far, without client.Object, limit func(*world.RemoteCluster), elder *far) (translate.Output, refusedFacts, int) {
	t.Helper()
	store, counted := world.NewStore(), 0
	local := NewFeed(store, "east", localKinds(), system)
	local.TakeOver(nil)
	remote := NewFeed(store, "west", remoteKinds(), system)
	remote.vetting = &vetting{refused: func() { counted++ }, changed: func() {}}
	remote.TakeOver(nil)
	put := func(feed *Feed, objects map[world.Kind][]client.Object) {
		for _, all := range objects {
			for _, o := range all {
				if o != without {
					feed.put(o)
				}
			}
		}
	}
	here := honest("east")
	here.service.Spec.ClusterIP, here.service.Spec.ClusterIPs = "10.96.0.7", []string{"10.96.0.7"}
	here.service.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.1"}, {Hostname: "lb.east.example.com"}}
	here.pod.Status.PodIP, here.pod.Status.PodIPs = "10.0.0.1", []corev1.PodIP{{IP: "10.0.0.1"}}
	here.gateway.Status.Addresses = nil
	put(local, here.objects())
	put(local, map[world.Kind][]client.Object{world.KindEndpointSlice: {&discoveryv1.EndpointSlice{ // of the API server
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: "kubernetes", Labels: map[string]string{discoveryv1.LabelServiceName: "kubernetes"}},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"192.0.2.10"}}},
	}}})
	put(remote, f.objects())
	if elder != nil { // by its id it would come last
		feed := NewFeed(store, "zzz", remoteKinds(), system)
		feed.TakeOver(nil)
		put(feed, elder.objects())
		store.Put(&world.RemoteCluster{Key: world.Key{Cluster: "east", Name: "zzz"}, ID: "zzz", Created: 1, MaxServices: 10, MaxEndpoints: 10})
	}
	limits := &world.RemoteCluster{Key: world.Key{Cluster: "east", Name: "west"}, ID: "west", Created: 2, Namespaces: []string{"demo"}, Identities: []string{"demo/cart"}, MaxServices: 10, MaxEndpoints: 10}
	if limit != nil {
		limit(limits)
	}
	store.Put(limits)
	delta, err := store.Take(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	state := world.NewState()
	state.Apply(delta)
	return translate.Build(state, hostileConfig), remote.Refused(), counted
}

// TestHostileForm says a malformed thing in every field that is read of every kind. Proxies are told exactly what they would be told
// without the object, and the object, its field and the problem are in status and counted.
func TestHostileForm(t *testing.T) {
	var (
		notNames  = []string{"..", "a/b", "UPPER", "a b", "a\x00b", "\xff\xfe", "-a", "a-", "ünï", "a\nb", "*", "%2e%2e", strings.Repeat("a", 254), "a//b", "{}"}
		notLabels = append([]string{"a.b", strings.Repeat("a", 64)}, notNames...)
		notValues = []string{"a/b", "a b", "a\x00b", "\xff", "-a", "a-", "ünï", "a\nb", "*", "${x}", strings.Repeat("a", 64), "a:b"}
		notIPs    = []string{"127.0.0.1", "::1", "0.0.0.0", "::", "0.1.2.3", "169.254.169.254", "fe80::1", "fe80::1%eth0", "224.0.0.1", "ff02::1", "255.255.255.255",
			"240.240.0.5", "fd6d:6573:68f0::5", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "10.0.0", "010.0.0.1", "10.0.0.1/8", "nonsense", "10.0.0.1 "}
		notHosts = []string{"localhost", "a b.c", "-a.b", "a..b", ".a.b", "a.b.", "127.1", "1.2.3.4.5", "0x7f.1", "a_b.c", "*.example.com", "a/b.c", "a\x00.b", strings.Repeat("a.", 127) + "bb",
			strings.Repeat("a", 64) + ".com", "UPPER.example.com"}
		notTexts = []string{"a\x00b", "\xff", "a\nb", strings.Repeat("a", 318), "\u202e"}
		notPorts = []int32{-1, 65536, 1 << 30, -1 << 31}
	)
	type field struct {
		name   string
		values []string
		ports  []int32
		object func(*far) client.Object
		set    func(*far, string)
		port   func(*far, int32)
	}
	pod := func(f *far) client.Object { return f.pod }
	service := func(f *far) client.Object { return f.service }
	slice := func(f *far) client.Object { return f.slice }
	node := func(f *far) client.Object { return f.node }
	namespace := func(f *far) client.Object { return f.namespace }
	class := func(f *far) client.Object { return f.class }
	gateway := func(f *far) client.Object { return f.gateway }
	labelled := func(o func(*far) client.Object) []field {
		return []field{
			{name: "metadata.labels", values: append([]string{"", "/a", "a/"}, notValues[1:]...), object: o, set: func(f *far, v string) {
				l := o(f).GetLabels()
				if l == nil {
					l = map[string]string{}
				}
				l[v] = "x"
				o(f).SetLabels(l)
			}},
			{name: "metadata.labels[app]", values: notValues, object: o, set: func(f *far, v string) {
				l := o(f).GetLabels()
				if l == nil {
					l = map[string]string{}
				}
				l["app"] = v
				o(f).SetLabels(l)
			}},
			{name: "metadata.labels", values: []string{"too many"}, object: o, set: func(f *far, v string) {
				l := map[string]string{}
				for i := range 200 {
					l[fmt.Sprintf("l%d", i)] = "x"
				}
				o(f).SetLabels(l)
			}},
			{name: "metadata.resourceVersion", values: []string{strings.Repeat("1", 65), strings.Repeat("1", 1<<20)}, object: o, set: func(f *far, v string) { o(f).SetResourceVersion(v) }},
			{name: "metadata.ownerReferences[0].name", values: append(notTexts, "", "..", "a/b"), object: o, set: func(f *far, v string) {
				o(f).SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "v1", Kind: "Owner", Name: v, UID: "u", Controller: ptr.To(true)}})
			}},
		}
	}
	fields := []field{
		{name: "metadata.namespace", values: append([]string{""}, notLabels...), object: pod, set: func(f *far, v string) { f.pod.Namespace = v }},
		{name: "metadata.name", values: append([]string{""}, notNames...), object: pod, set: func(f *far, v string) { f.pod.Name = v }},
		{name: "spec.nodeName", values: notNames, object: pod, set: func(f *far, v string) { f.pod.Spec.NodeName = v }},
		{name: "spec.serviceAccountName", values: notNames, object: pod, set: func(f *far, v string) { f.pod.Spec.ServiceAccountName = v }},
		{name: "status.podIPs[1]", values: notIPs, object: pod, set: func(f *far, v string) { f.pod.Status.PodIPs = append(f.pod.Status.PodIPs, corev1.PodIP{IP: v}) }},
		{name: "status.podIP", values: notIPs, object: pod, set: func(f *far, v string) { f.pod.Status.PodIP, f.pod.Status.PodIPs = v, nil }},
		{name: "status.podIPs", values: []string{"too many"}, object: pod, set: func(f *far, _ string) {
			for i := range 20 {
				f.pod.Status.PodIPs = append(f.pod.Status.PodIPs, corev1.PodIP{IP: fmt.Sprintf("10.9.1.%d", i)})
			}
		}},
		{name: "metadata.namespace", values: append([]string{""}, notLabels...), object: service, set: func(f *far, v string) { f.service.Namespace = v }},
		{name: "metadata.name", values: append([]string{""}, notLabels...), object: service, set: func(f *far, v string) { f.service.Name = v }},
		{name: "spec.clusterIPs[0]", values: notIPs, object: service, set: func(f *far, v string) { f.service.Spec.ClusterIPs = []string{v} }},
		{name: "spec.clusterIP", values: notIPs, object: service, set: func(f *far, v string) { f.service.Spec.ClusterIP, f.service.Spec.ClusterIPs = v, nil }},
		{name: "spec.ports[0].port", ports: append([]int32{0}, notPorts...), object: service, port: func(f *far, v int32) { f.service.Spec.Ports[0].Port = v }},
		{name: "spec.ports[0].targetPort", ports: notPorts, object: service, port: func(f *far, v int32) { f.service.Spec.Ports[0].TargetPort = intstr.FromInt32(v) }},
		{name: "spec.ports[0].targetPort", values: notLabels, object: service, set: func(f *far, v string) { f.service.Spec.Ports[0].TargetPort = intstr.FromString(v) }},
		{name: "spec.ports[0].name", values: notLabels, object: service, set: func(f *far, v string) { f.service.Spec.Ports[0].Name = v }},
		{name: "spec.ports[0].protocol", values: []string{"ICMP", "tcp", "\xff"}, object: service, set: func(f *far, v string) { f.service.Spec.Ports[0].Protocol = corev1.Protocol(v) }},
		{name: "spec.ports[0].appProtocol", values: notValues[1:], object: service, set: func(f *far, v string) { f.service.Spec.Ports[0].AppProtocol = &v }},
		{name: "spec.ports[1].port", values: []string{"twice"}, object: service, set: func(f *far, _ string) { f.service.Spec.Ports = append(f.service.Spec.Ports, f.service.Spec.Ports[0]) }},
		{name: "spec.ports", values: []string{"too many"}, object: service, set: func(f *far, _ string) {
			for i := range int32(300) {
				f.service.Spec.Ports = append(f.service.Spec.Ports, corev1.ServicePort{Port: 1000 + i})
			}
		}},
		{name: "spec.trafficDistribution", values: notTexts, object: service, set: func(f *far, v string) { f.service.Spec.TrafficDistribution = &v }},
		{name: "metadata.namespace", values: append([]string{""}, notLabels...), object: slice, set: func(f *far, v string) { f.slice.Namespace = v }},
		{name: "metadata.name", values: append([]string{""}, notNames...), object: slice, set: func(f *far, v string) { f.slice.Name = v }},
		{name: "metadata.labels", values: notLabels, object: slice, set: func(f *far, v string) { f.slice.Labels[discoveryv1.LabelServiceName] = v }},
		{name: "ports[0].port", ports: append([]int32{0}, notPorts...), object: slice, port: func(f *far, v int32) { f.slice.Ports[0].Port = &v }},
		{name: "ports[0].name", values: notLabels, object: slice, set: func(f *far, v string) { f.slice.Ports[0].Name = &v }},
		{name: "endpoints[0].addresses[0]", values: notIPs, object: slice, set: func(f *far, v string) { f.slice.Endpoints[0].Addresses = []string{v} }},
		{name: "endpoints[0].nodeName", values: notNames, object: slice, set: func(f *far, v string) { f.slice.Endpoints[0].NodeName = &v }},
		{name: "endpoints[0].targetRef.name", values: append([]string{""}, notNames...), object: slice, set: func(f *far, v string) { f.slice.Endpoints[0].TargetRef.Name = v }},
		{name: "endpoints[0].targetRef.namespace", values: append([]string{"kube-system"}, notLabels...), object: slice, set: func(f *far, v string) { f.slice.Endpoints[0].TargetRef.Namespace = v }},
		{name: "endpoints", values: []string{"too many"}, object: slice, set: func(f *far, _ string) {
			for range 1001 {
				f.slice.Endpoints = append(f.slice.Endpoints, f.slice.Endpoints[0])
			}
		}},
		{name: "metadata.name", values: append([]string{""}, notNames...), object: node, set: func(f *far, v string) { f.node.Name = v }},
		{name: "metadata.labels[" + corev1.LabelTopologyZone + "]", values: notValues, object: node, set: func(f *far, v string) { f.node.Labels[corev1.LabelTopologyZone] = v }},
		{name: "metadata.namespace", values: []string{"demo", "a/b"}, object: node, set: func(f *far, v string) { f.node.Namespace = v }},
		{name: "metadata.name", values: append([]string{""}, notLabels...), object: namespace, set: func(f *far, v string) { f.namespace.Name = v }},
		{name: "metadata.labels[" + networkLabel + "]", values: notValues, object: func(f *far) client.Object { return f.system }, set: func(f *far, v string) { f.system.Labels[networkLabel] = v }},
		{name: "metadata.name", values: append([]string{""}, notNames...), object: class, set: func(f *far, v string) { f.class.Name = v }},
		{name: "spec.controllerName", values: notTexts, object: class, set: func(f *far, v string) { f.class.Spec.ControllerName = gatewayv1.GatewayController(v) }},
		{name: "metadata.namespace", values: append([]string{""}, notLabels...), object: gateway, set: func(f *far, v string) { f.gateway.Namespace = v }},
		{name: "metadata.name", values: append([]string{""}, notNames...), object: gateway, set: func(f *far, v string) { f.gateway.Name = v }},
		{name: "spec.gatewayClassName", values: append([]string{""}, notNames...), object: gateway, set: func(f *far, v string) { f.gateway.Spec.GatewayClassName = gatewayv1.ObjectName(v) }},
		{name: "metadata.annotations[" + world.AnnotationServiceAccount + "]", values: append([]string{"a/ns/b", "../sa/b"}, notNames...), object: gateway, set: func(f *far, v string) {
			f.gateway.Annotations = map[string]string{world.AnnotationServiceAccount: v}
		}},
		{name: "metadata.labels[" + networkLabel + "]", values: notValues, object: gateway, set: func(f *far, v string) { f.gateway.Labels = map[string]string{networkLabel: v} }},
		{name: "spec.listeners[0].name", values: append([]string{""}, notNames...), object: gateway, set: func(f *far, v string) { f.gateway.Spec.Listeners[0].Name = gatewayv1.SectionName(v) }},
		{name: "spec.listeners[0].port", ports: append([]int32{0}, notPorts...), object: gateway, port: func(f *far, v int32) { f.gateway.Spec.Listeners[0].Port = v }},
		{name: "spec.listeners[0].protocol", values: append([]string{""}, notTexts...), object: gateway, set: func(f *far, v string) { f.gateway.Spec.Listeners[0].Protocol = gatewayv1.ProtocolType(v) }},
		{name: "spec.listeners[0].hostname", values: notTexts, object: gateway, set: func(f *far, v string) { f.gateway.Spec.Listeners[0].Hostname = ptr.To(gatewayv1.Hostname(v)) }},
		{name: "spec.listeners[1].name", values: []string{"twice"}, object: gateway, set: func(f *far, _ string) {
			f.gateway.Spec.Listeners = append(f.gateway.Spec.Listeners, f.gateway.Spec.Listeners[0])
		}},
		{name: "status.addresses[0].value", values: notIPs, object: gateway, set: func(f *far, v string) { f.gateway.Status.Addresses[0].Value = v }},
		{name: "status.addresses[1].value", values: append([]string{""}, notHosts...), object: gateway, set: func(f *far, v string) { f.gateway.Status.Addresses[1].Value = v }},
		{name: "status.addresses[0].type", values: notTexts, object: gateway, set: func(f *far, v string) { f.gateway.Status.Addresses[0].Type = ptr.To(gatewayv1.AddressType(v)) }},
		{name: "status.addresses", values: []string{"too many"}, object: gateway, set: func(f *far, _ string) {
			for i := range 20 {
				f.gateway.Status.Addresses = append(f.gateway.Status.Addresses, gatewayv1.GatewayStatusAddress{Value: fmt.Sprintf("203.0.113.%d", 20+i)})
			}
		}},
	}
	routes := "spec.listeners[0].allowedRoutes.namespaces"
	selecting := func(s metav1.LabelSelector) func(*far) {
		return func(f *far) {
			f.gateway.Spec.Listeners[0].AllowedRoutes = &gatewayv1.AllowedRoutes{Namespaces: &gatewayv1.RouteNamespaces{From: ptr.To(gatewayv1.NamespacesFromSelector), Selector: &s}}
		}
	}
	expression := func(e metav1.LabelSelectorRequirement) func(*far) {
		return selecting(metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{e}})
	}
	notKeys := append([]string{"", "/a", "a/"}, notValues[1:]...)
	fields = append(fields,
		field{name: routes + ".from", values: notTexts, object: gateway, set: func(f *far, v string) {
			f.gateway.Spec.Listeners[0].AllowedRoutes = &gatewayv1.AllowedRoutes{Namespaces: &gatewayv1.RouteNamespaces{From: ptr.To(gatewayv1.FromNamespaces(v))}}
		}},
		field{name: routes + ".selector.matchLabels", values: notKeys, object: gateway, set: func(f *far, v string) {
			selecting(metav1.LabelSelector{MatchLabels: map[string]string{v: "x"}})(f)
		}},
		field{name: routes + ".selector.matchLabels[app]", values: notValues, object: gateway, set: func(f *far, v string) {
			selecting(metav1.LabelSelector{MatchLabels: map[string]string{"app": v}})(f)
		}},
		field{name: routes + ".selector.matchExpressions[0].key", values: notKeys, object: gateway, set: func(f *far, v string) {
			expression(metav1.LabelSelectorRequirement{Key: v, Operator: metav1.LabelSelectorOpExists})(f)
		}},
		field{name: routes + ".selector.matchExpressions[0].operator", values: append([]string{""}, notTexts...), object: gateway, set: func(f *far, v string) {
			expression(metav1.LabelSelectorRequirement{Key: "app", Operator: metav1.LabelSelectorOperator(v)})(f)
		}},
		field{name: routes + ".selector.matchExpressions[0].values", values: append([]string{"too many"}, notValues...), object: gateway, set: func(f *far, v string) {
			values := []string{v}
			if v == "too many" {
				values = strings.Split(strings.Repeat("a", 100), "")
			}
			expression(metav1.LabelSelectorRequirement{Key: "app", Operator: metav1.LabelSelectorOpIn, Values: values})(f)
		}},
		field{name: routes + ".selector.matchLabels", values: []string{"too many"}, object: gateway, set: func(f *far, _ string) {
			labels := map[string]string{}
			for i := range 100 {
				labels[fmt.Sprint("a", i)] = "b"
			}
			selecting(metav1.LabelSelector{MatchLabels: labels})(f)
		}},
	)
	for _, o := range []func(*far) client.Object{pod, service, node, namespace, gateway, class} {
		fields = append(fields, labelled(o)...)
	}
	cases := 0
	for _, f := range fields {
		for _, network := range []string{"west", "east"} { // behind a gateway, and on our own network
			one := func(value string, set func(*far)) {
				hostile := honest(network)
				object := f.object(hostile)
				kind := fmt.Sprintf("%T", object)
				kind = kind[strings.LastIndexByte(kind, '.')+1:]
				set(hostile)
				cases++
				name := fmt.Sprintf("%s %s = %.40q on network %s", kind, f.name, value, network)
				got, refused, counted := told(t, hostile, nil)
				want, none, _ := told(t, hostile, object)
				if diff := cmp.Diff(want.Mesh, got.Mesh, byAddress); diff != "" {
					t.Errorf("%s: proxies are told something of it (-without +with):\n%s", name, diff)
				}
				if none.count != 0 || refused.count != 1 || counted != 1 || !strings.HasPrefix(refused.example, kind+" ") || !strings.Contains(refused.example, ": "+f.name) {
					t.Errorf("%s: %d refused, %d counted, and status says %q", name, refused.count, counted, refused.example)
				}
				if len(refused.example) > 1200 || strings.ContainsFunc(refused.example, func(r rune) bool { return r < ' ' || r > '~' && r != '…' }) {
					t.Errorf("%s: status would hold %d bytes: %q", name, len(refused.example), refused.example)
				}
			}
			for _, v := range f.values {
				one(v, func(h *far) { f.set(h, v) })
			}
			for _, v := range f.ports {
				one(fmt.Sprint(v), func(h *far) { f.port(h, v) })
			}
		}
	}
	t.Logf("%d malformed objects, none accepted", cases)
	if cases < 400 {
		t.Errorf("only %d cases", cases)
	}
	for _, network := range []string{"west", "east"} {
		got, refused, counted := told(t, honest(network), nil)
		if refused.count+counted > 0 || got.Remotes["west"].Services != 1 || got.Remotes["west"].Endpoints != 1 {
			t.Errorf("an honest cluster on network %s: %+v, refused %+v", network, got.Remotes["west"], refused)
		}
	}
}

// TestHostileClaims says well-formed things that the cluster must not say. Nothing of them is told, and they are counted.
func TestHostileClaims(t *testing.T) {
	cases := 0
	type limit = func(*world.RemoteCluster)
	// beside has the claim made within limits, and where there is another cluster, linked before: nothing of what is said of that one may be another either.
	beside := func(name string, within limit, elder, hostile *far, object client.Object, sum func(translate.RemoteCount) int) {
		t.Helper()
		cases++
		got, _, _ := toldWith(t, hostile, nil, within, elder)
		want, _, _ := toldWith(t, hostile, object, within, elder)
		if diff := cmp.Diff(want.Mesh, got.Mesh, byAddress); diff != "" {
			t.Errorf("%s: proxies are told something of it (-without +with):\n%s", name, diff)
		}
		if before, after := sum(want.Remotes["west"]), sum(got.Remotes["west"]); after != before+1 {
			t.Errorf("%s: refused are %d, without it %d", name, after, before)
		}
		if diff := cmp.Diff(want.Remotes["zzz"], got.Remotes["zzz"]); diff != "" {
			t.Errorf("%s: of the other cluster is said (-without +with):\n%s", name, diff)
		}
	}
	check := func(name string, hostile *far, object client.Object, sum func(translate.RemoteCount) int) {
		t.Helper()
		beside(name, nil, nil, hostile, object, sum)
	}
	taken := func(c translate.RemoteCount) int { return c.TakenDoors }
	for _, own := range []string{"west", "zzz"} { // which network the other cluster is on
		for _, at := range []gatewayv1.GatewayStatusAddress{{Value: "203.0.113.77"}, {Type: ptr.To(gatewayv1.HostnameAddressType), Value: "lb.zzz.example.com"}} {
			elder, f := honest(own), honest(own)
			elder.gateway.Status.Addresses, f.gateway.Status.Addresses = []gatewayv1.GatewayStatusAddress{at}, []gatewayv1.GatewayStatusAddress{at}
			beside("a gateway where another cluster has one on network "+own+", at "+at.Value, nil, elder, f, f.gateway, taken)
			f.gateway.Name = "another"
			beside("a gateway of another name there, at "+at.Value, nil, elder, f, f.gateway, taken)
		}
	}
	for _, app := range []string{"tcp", "http", "grpc", "tls"} { // what it says of its age counts as little as its words do where ours are others
		for _, created := range []int64{1, 1 << 40} {
			f := honest("west")
			f.service.CreationTimestamp = metav1.Unix(created, 0)
			f.service.Spec.Ports[0].AppProtocol = &app
			got, _, _ := told(t, f, nil)
			want, _, _ := told(t, honest("west"), nil)
			cases++
			k := mesh.ServiceKey{Namespace: "demo", Hostname: "cart.demo.svc.cluster.local"}
			if diff := cmp.Diff(want.Mesh.Services[k], got.Mesh.Services[k], byAddress); diff != "" {
				t.Errorf("the port of a Service that says to be of %d and speaks %s is told otherwise:\n%s", created, app, diff)
			}
		}
	}
	pods := func(c translate.RemoteCount) int { return c.RefusedPods }
	doors := func(c translate.RemoteCount) int { return c.RefusedDoors + c.UnpermittedDoors }
	out := func(c translate.RemoteCount) int { return c.LeftOut }
	strangers := func(c translate.RemoteCount) int { return c.Strangers }
	networks := func(c translate.RemoteCount) int { return c.RefusedNetworks }
	for _, claim := range []string{"east", "north", "East", "dmz", "0", "west-2", "isthmus-system"} {
		f := honest("west")
		f.pod.Labels[networkLabel] = claim
		check("a pod on network "+claim, f, f.pod, networks)
		f = honest("west")
		f.namespace.Labels = map[string]string{networkLabel: claim}
		check("a pod in a namespace on network "+claim, f, f.pod, networks)
		f = honest("west")
		f.namespace.Labels = map[string]string{networkLabel: "west"}
		f.pod.Labels[networkLabel] = claim
		check("a pod on network "+claim+" in an honest namespace", f, f.pod, networks)
		f = honest("west")
		f.gateway.Labels = map[string]string{networkLabel: claim}
		check("a gateway to network "+claim, f, f.gateway, doors)
	}
	ours := []string{"10.0.0.1", "10.96.0.7", "203.0.113.1", "192.0.2.10"}
	for _, a := range ours {
		f := honest("east")
		f.pod.Status.PodIP, f.pod.Status.PodIPs = a, []corev1.PodIP{{IP: a}}
		check("a pod at our "+a, f, f.pod, pods)
		f = honest("east")
		f.pod.Status.PodIPs = append(f.pod.Status.PodIPs, corev1.PodIP{IP: a})
		check("a pod also at our "+a, f, f.pod, pods)
		f = honest("west")
		f.gateway.Status.Addresses = []gatewayv1.GatewayStatusAddress{{Value: a}}
		check("a gateway at our "+a, f, f.gateway, doors)
	}
	astray := func(c translate.RemoteCount) int { return c.Astray }
	for name, within := range map[string]limit{
		"10.9.0.0/24 and fd09::/64": func(l *world.RemoteCluster) {
			l.PodCIDRs = []netip.Prefix{netip.MustParsePrefix("10.9.0.0/24"), netip.MustParsePrefix("fd09::/64")}
		},
		"10.9.0.7/32": func(l *world.RemoteCluster) { l.PodCIDRs = []netip.Prefix{netip.MustParsePrefix("10.9.0.7/32")} },
	} {
		for _, a := range []string{"10.9.1.0", "10.8.255.255", "10.0.0.2", "8.8.8.8", "198.51.100.1", "100.64.0.1", "172.16.0.1", "192.168.0.1", "fd09:0:0:1::1", "fd08::1", "2001:db8::1", "64:ff9b::a09:7"} {
			f := honest("east")
			f.pod.Status.PodIP, f.pod.Status.PodIPs = a, []corev1.PodIP{{IP: a}}
			beside("a pod at "+a+", outside "+name, within, nil, f, f.pod, astray)
			f = honest("east")
			f.pod.Status.PodIPs = append(f.pod.Status.PodIPs, corev1.PodIP{IP: a})
			beside("a pod also at "+a+", outside "+name, within, nil, f, f.pod, astray)
		}
		got, _, _ := toldWith(t, honest("east"), nil, within, nil)
		if count := got.Remotes["west"]; count.Astray != 0 || count.Endpoints != 1 || got.Mesh.Workloads["west//Pod/demo/cart-1"] == nil {
			t.Errorf("an honest cluster within %s: %+v", name, count)
		}
	}
	for _, h := range []string{"lb.east.example.com", "kubernetes.default.svc.cluster.local", "cart.demo.svc.cluster.local", "cluster.local"} {
		f := honest("west")
		f.gateway.Status.Addresses = []gatewayv1.GatewayStatusAddress{{Type: ptr.To(gatewayv1.HostnameAddressType), Value: h}}
		check("a gateway at our "+h, f, f.gateway, doors)
	}
	for _, ns := range []string{"kube-system", "default", "isthmus-system-2", "shop"} {
		f := honest("west")
		f.gateway.Namespace = ns
		f.gateway.Status.Addresses = f.gateway.Status.Addresses[:1]
		check("a gateway in "+ns, f, f.gateway, doors)
	}
	for _, ns := range []string{"kube-system", "default", system, "shop", "demo-2"} {
		for _, network := range []string{"west", "east"} {
			f := honest(network)
			f.service.Namespace, f.pod.Namespace, f.slice.Namespace, f.slice.Endpoints[0].TargetRef.Namespace = ns, ns, ns, ns
			check("a service in "+ns+" on "+network, f, f.service, out)
			p := honest(network)
			p.pod.Namespace = ns
			got, _, _ := told(t, p, nil)
			want, _, _ := told(t, p, p.pod)
			cases++
			if diff := cmp.Diff(want.Mesh, got.Mesh, byAddress); diff != "" {
				t.Errorf("a pod in %s on %s is told:\n%s", ns, network, diff)
			}
		}
	}
	for _, account := range []string{"admin", "default", "", "cart-2", "isthmus-controller", "eastwest", "cart.x"} {
		for _, network := range []string{"west", "east"} {
			f := honest(network)
			f.pod.Spec.ServiceAccountName = account
			check("a pod of identity demo/"+account+" on "+network, f, f.pod, strangers)
		}
	}
	t.Logf("%d claims, none believed", cases)
}

// byAddress compares addresses, which hold what cmp does not look into.
var byAddress = cmpopts.EquateComparable(netip.Addr{})
