// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/internal/world"
	"github.com/isthmus-mesh/isthmus/internal/xds"
	"github.com/isthmus-mesh/isthmus/test/ambient"
)

// recorded keeps Events as "kind namespace/name: reason".
type recorded []string

func (r *recorded) Eventf(regarding, _ runtime.Object, _, reason, _, _ string, args ...any) {
	o := regarding.(*metav1.PartialObjectMetadata)
	if len(fmt.Sprint(args...)) > 1024 {
		reason = "too long"
	}
	*r = append(*r, fmt.Sprintf("%s %s/%s: %s", o.Kind, o.Namespace, o.Name, reason))
}

func TestRejectionsAreToldToTheObjectAtFault(t *testing.T) {
	caller := xds.Caller{Namespace: system, ServiceAccount: "nodeproxy", Pod: "proxy", Node: "node-1"}
	own := "Pod isthmus-system/proxy: RejectsConfiguration"
	stranger := xds.Caller{Namespace: "shop", ServiceAccount: "cart", Pod: "cart-0", Node: "node-1"}
	for _, tc := range []struct {
		resources []xds.RejectedResource
		caller    xds.Caller
		want      []string
	}{
		{[]xds.RejectedResource{{Kind: "Workload", Name: "east//Pod/shop/cart-0"}}, caller, []string{"Pod shop/cart-0: RejectedByProxy"}},
		{[]xds.RejectedResource{{Kind: "Workload", Name: "west//Pod/shop/cart-0"}}, caller, []string{own}},
		{[]xds.RejectedResource{{Kind: "Service", Name: "shop/cart.shop.svc.cluster.local"}, {Kind: "Policy", Name: "shop/deny"}}, caller,
			[]string{"Service shop/cart: RejectedByProxy", "AuthorizationPolicy shop/deny: RejectedByProxy"}},
		{[]xds.RejectedResource{{Kind: "Service", Name: "shop/example.com"}, {Kind: "Policy", Name: "shop/istio_converted_static_strict"}}, caller, []string{own}},
		{[]xds.RejectedResource{{Kind: "Gateway", Name: "edge/west"}}, caller, []string{"Gateway edge/west: RejectedByProxy"}},
		{[]xds.RejectedResource{{Kind: "Service", Name: "bank/vault.bank.svc.cluster.local"}, {Kind: "Workload", Name: "east//Pod/bank/vault-0"}, {Kind: "Policy", Name: "bank/deny"}}, stranger,
			[]string{"Pod shop/cart-0: RejectsConfiguration"}},
		{[]xds.RejectedResource{{Kind: "Gateway", Name: "shop/west"}}, stranger, []string{"Gateway shop/west: RejectedByProxy"}},
		{nil, caller, []string{own}},
		{nil, xds.Caller{Namespace: system}, nil},
	} {
		var got recorded
		r := newRejections(world.Config{LocalCluster: "east", ClusterDomain: "cluster.local"}, &got, []string{"isthmus-system/nodeproxy"})
		r.tell(xds.Rejection{Caller: tc.caller, Type: "Address", Resources: tc.resources, Reason: strings.Repeat("é", 2000)})
		if !slices.Equal(got, tc.want) {
			t.Errorf("%v: events are %q, want %q", tc.resources, []string(got), tc.want)
		}
	}
}

// TestRejectionsAreBounded has one pod reject without end, as a hostile one may: another one is heard nevertheless.
func TestRejectionsAreBounded(t *testing.T) {
	var got recorded
	r := newRejections(world.Config{LocalCluster: "east", ClusterDomain: "cluster.local"}, &got, nil)
	for i := range 1000 {
		var named []xds.RejectedResource
		for j := range 20 {
			named = append(named, xds.RejectedResource{Kind: "Policy", Name: fmt.Sprintf("shop/p%d-%d", i, j)})
		}
		r.tell(xds.Rejection{Caller: xds.Caller{Namespace: "bad", Pod: "bad"}, Type: "Authorization", Resources: named, Reason: "no"})
	}
	if len(got) < tellBurst || len(got) > 2*tellBurst {
		t.Errorf("%d Events of 20000 rejected resources, want about %d", len(got), tellBurst)
	}
	got = nil
	r.tell(xds.Rejection{Caller: xds.Caller{Namespace: system, Pod: "proxy"}, Type: "Authorization", Reason: "no"})
	if want := []string{"Pod isthmus-system/proxy: RejectsConfiguration"}; !slices.Equal(got, want) {
		t.Errorf("events of another pod are %q, want %q", []string(got), want)
	}
}

var _ = Describe("A rejection", func() {
	It("is an Event on the object that a proxy cannot use, and costs nothing else", func() {
		o := ztunnelOn("ztunnel-rejects", "node-1")
		o.Refuse = func(name string) error {
			if strings.HasSuffix(name, "/refused.default.svc.cluster.local") {
				return errors.New("not to my taste")
			}
			return nil
		}
		z := ambient.New(o)
		session(z)
		east.runApp("default", "refused", "10.244.1.40", nil)
		Eventually(func() string {
			var list eventsv1.EventList
			Expect(east.List(context.Background(), &list, client.InNamespace("default"))).To(Succeed())
			for _, e := range list.Items {
				if e.Reason == "RejectedByProxy" {
					return fmt.Sprint(e.Regarding.Kind, "/", e.Regarding.Name, " ", e.Related.Name, " ", e.Note)
				}
			}
			return ""
		}).Should(And(HavePrefix("Service/refused ztunnel-rejects "), HaveSuffix("not to my taste")))
		east.runApp("default", "accepted", "10.244.1.41", nil)
		Eventually(func() map[string]ambient.Service { return z.Services() }).Should(HaveKey("default/accepted.default.svc.cluster.local"))
		Expect(z.Services()).NotTo(HaveKey("default/refused.default.svc.cluster.local"))
	})
})
