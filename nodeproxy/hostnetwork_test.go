// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// TestNodeIsNotBehindTheWaypointOfAPodOnIt: a host network pod of a namespace that has a waypoint for workloads leads nobody to that waypoint who connects to its node.
func TestNodeIsNotBehindTheWaypointOfAPodOnIt(t *testing.T) {
	state, d := world.NewState(), world.NewDelta()
	put := func(o any) {
		switch o := o.(type) {
		case *corev1.Namespace:
			d.Put(world.Reduce("east", o))
		case *corev1.Pod:
			d.Put(world.Reduce("east", o))
		case *gatewayv1.GatewayClass:
			d.Put(world.Reduce("east", o))
		case *gatewayv1.Gateway:
			d.Put(world.Reduce("east", o))
		}
	}
	ns := func(name string, labels map[string]string) {
		put(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}})
	}
	ns("isthmus-system", map[string]string{world.LabelNetwork: "east"})
	ns("shop", nil)
	ns("edge", map[string]string{world.LabelUseWaypoint: "wp"})
	pod := func(namespace, name, ip string, host bool) {
		put(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: corev1.PodSpec{NodeName: "n1", HostNetwork: host, ServiceAccountName: "default"},
			Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}})
	}
	pod("shop", "client", "10.0.0.5", false)
	pod("kube-system", "kube-apiserver", "192.168.0.10", true)
	pod("edge", "node-exporter", "192.168.0.10", true)
	pod("zz", "kube-proxy", "192.168.0.10", true)
	put(&gatewayv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: "waypoint"}, Spec: gatewayv1.GatewayClassSpec{ControllerName: "isthmus.dev/gateway-controller"}})
	kind := gatewayv1.IPAddressType
	put(&gatewayv1.Gateway{ObjectMeta: metav1.ObjectMeta{Namespace: "edge", Name: "wp", Labels: map[string]string{world.LabelWaypointFor: "all"}},
		Spec:   gatewayv1.GatewaySpec{GatewayClassName: "waypoint", Listeners: []gatewayv1.Listener{{Name: "mesh", Port: 15008, Protocol: "HBONE"}}},
		Status: gatewayv1.GatewayStatus{Addresses: []gatewayv1.GatewayStatusAddress{{Type: &kind, Value: "10.96.0.99"}}}})
	state.Apply(d)
	out := translate.Build(state, world.Config{LocalCluster: "east", TrustDomain: "cluster.local", ClusterDomain: "cluster.local", SystemNamespace: "isthmus-system"})
	live := directory.NewLive()
	live.Apply(mesh.Delta(out.Mesh))
	v := live.Load()
	client := v.Workload("east//Pod/shop/client")
	for _, dst := range []string{"192.168.0.10:6443", "192.168.0.10:10250", "192.168.0.10:30080"} {
		plan, refusal := Decide(v, Source{Network: "east", Workload: client}, netip.MustParseAddrPort(dst), Choice{Random: func(uint64) uint64 { return 0 }})
		if refusal != nil || plan.Dial.String() != dst {
			t.Errorf("%s: %+v, %v; want it to be passed through to the node", dst, plan, refusal)
		}
	}
}
