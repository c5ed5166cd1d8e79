// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

var byValue = []cmp.Option{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmpopts.EquateEmpty(),
}

// describe lists what a delta holds.
func describe(d world.Delta) string {
	var out []string
	describeKind(&out, world.KindPod, d.Pods)
	describeKind(&out, world.KindService, d.Services)
	describeKind(&out, world.KindEndpointSlice, d.EndpointSlices)
	describeKind(&out, world.KindNode, d.Nodes)
	describeKind(&out, world.KindNamespace, d.Namespaces)
	describeKind(&out, world.KindGatewayClass, d.GatewayClasses)
	describeKind(&out, world.KindGateway, d.Gateways)
	describeKind(&out, world.KindServiceScope, d.ServiceScopes)
	describeKind(&out, world.KindRemoteCluster, d.RemoteClusters)
	describeKind(&out, world.KindAuthorizationPolicy, d.AuthorizationPolicies)
	describeKind(&out, world.KindPeerAuthentication, d.PeerAuthentications)
	describeKind(&out, world.KindVIP, d.VIPs)
	slices.Sort(out)
	return strings.Join(out, "\n  ")
}

func describeKind[V any](out *[]string, kind world.Kind, changes map[world.Key]*V) {
	for k, v := range changes {
		if v == nil {
			*out = append(*out, fmt.Sprintf("delete %s %s", kind, k))
		} else {
			*out = append(*out, fmt.Sprintf("put %s %s %+v", kind, k, *v))
		}
	}
}
