// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// balanced is a service of age seconds; has and wish are addresses or empty.
func balanced(name string, age int, has, wish string) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, CreationTimestamp: metav1.NewTime(time.Unix(int64(1000-age), 0))},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, LoadBalancerIP: wish},
	}
	if has != "" {
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: has}}
	}
	return s
}

func TestAssign(t *testing.T) {
	plain := balanced("plain", 9, "", "")
	plain.Spec.Type = corev1.ServiceTypeClusterIP
	classed := balanced("classed", 9, "", "")
	classed.Spec.LoadBalancerClass = new("other")
	deleted := balanced("deleted", 9, "10.0.0.1", "")
	deleted.DeletionTimestamp = new(metav1.Now())
	for _, test := range []struct {
		name     string
		services []*corev1.Service
		want     string
	}{
		{"the oldest first", []*corev1.Service{balanced("a", 1, "", ""), balanced("b", 2, "", "")}, "a=10.0.0.2 b=10.0.0.1"},
		{"who has one keeps it", []*corev1.Service{balanced("a", 1, "10.0.0.1", ""), balanced("b", 2, "", "")}, "a=10.0.0.1 b=10.0.0.2"},
		{"two have the same", []*corev1.Service{balanced("a", 1, "10.0.0.5", ""), balanced("b", 2, "10.0.0.5", "")}, "a=10.0.0.1 b=10.0.0.5"},
		{"a wish", []*corev1.Service{balanced("a", 1, "", "10.0.0.1"), balanced("b", 2, "", "")}, "a=10.0.0.1 b=10.0.0.2"},
		{"a wish for a taken one", []*corev1.Service{balanced("a", 2, "", "10.0.0.4"), balanced("b", 1, "10.0.0.4", "")}, "b=10.0.0.4"},
		{"a changed wish", []*corev1.Service{balanced("a", 2, "10.0.0.4", "10.0.0.6")}, "a=10.0.0.6"},
		{"wishes outside", []*corev1.Service{balanced("a", 2, "", "10.9.0.4"), balanced("b", 1, "", "no"), balanced("c", 1, "", "10.0.0.0")}, ""},
		{"has one outside", []*corev1.Service{balanced("a", 2, "10.9.0.4", "")}, "a=10.0.0.1"},
		{"not ours", []*corev1.Service{plain, classed, deleted, balanced("a", 1, "", "")}, "a=10.0.0.1"},
		{"too many", []*corev1.Service{
			balanced("a", 9, "", ""), balanced("b", 8, "", ""), balanced("c", 7, "", ""), balanced("d", 6, "", ""),
			balanced("e", 5, "", ""), balanced("f", 4, "", ""), balanced("g", 3, "", ""),
		}, "a=10.0.0.1 b=10.0.0.2 c=10.0.0.3 d=10.0.0.4 e=10.0.0.5 f=10.0.0.6"},
	} {
		t.Run(test.name, func(t *testing.T) {
			for range 2 { // the order of arrival does not matter
				got := assign(test.services, netip.MustParsePrefix("10.0.0.0/29"))
				var lines []string
				for key, address := range got {
					lines = append(lines, fmt.Sprintf("%s=%s", key.Name, address))
				}
				slices.Sort(lines)
				if strings.Join(lines, " ") != test.want {
					t.Errorf("%v, want %s", lines, test.want)
				}
				if again := assign(test.services, netip.MustParsePrefix("10.0.0.0/29")); !maps.Equal(got, again) {
					t.Errorf("%v, then %v", got, again)
				}
				slices.Reverse(test.services)
			}
		})
	}
}

func TestReadyAddresses(t *testing.T) {
	node := func(address string, status corev1.ConditionStatus) *corev1.Node {
		return &corev1.Node{Status: corev1.NodeStatus{
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status}},
			Addresses:  []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: "n"}, {Type: corev1.NodeInternalIP, Address: address}},
		}}
	}
	got := readyAddresses([]*corev1.Node{
		node("10.89.1.12", corev1.ConditionTrue), node("10.89.1.13", corev1.ConditionUnknown),
		node("10.89.1.11", corev1.ConditionTrue), {},
	})
	if len(got) != 2 || got[0].String() != "10.89.1.11" || got[1].String() != "10.89.1.12" {
		t.Errorf("addresses %v", got)
	}
}

func TestLastAddress(t *testing.T) {
	for prefix, want := range map[string]string{"10.89.101.0/24": "10.89.101.255", "10.0.0.8/29": "10.0.0.15", "10.0.0.1/32": "10.0.0.1"} {
		if got := lastAddress(netip.MustParsePrefix(prefix)); got.String() != want {
			t.Errorf("%s: %s, want %s", prefix, got, want)
		}
	}
}
