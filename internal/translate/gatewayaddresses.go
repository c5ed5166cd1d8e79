// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// gatewayAddresses are those that the Gateway has, and why it has none that will do. It settles what the plan asks for.
func (x *index) gatewayAddresses(g *world.Gateway, plan *GatewayPlan, taken map[string]world.Key) ([]world.GatewayAddress, *gatewayProblem) {
	has := x.serviceAddresses(g)
	var unfronted *gatewayProblem
	if unmanaged(g) {
		if unfronted = x.fronted(g, plan.Listeners); unfronted != nil && !plan.Kept {
			return nil, unfronted
		}
	}
	kind, front := x.serviceKind(g), x.front(g)
	exclusive := func(a string) bool { // nodes serve each Gateway at ports of its own
		return kind != typeNodePort && addressType(a) == addressIP
	}
	var wanted []string
	anyToo := false
	for _, a := range g.Addresses {
		anyToo = anyToo || a.Type == addressIP && a.Value == ""
		if ip, err := netip.ParseAddr(a.Value); err == nil && a.Type == addressIP && !slices.Contains(wanted, ip.String()) {
			wanted = append(wanted, ip.String()) // as Services have it
		}
	}
	if plan.ServiceType == typeClusterIP { // two cannot have one, so there is no harm in asking, and one that was made with another one would keep that
		plan.Addresses = wanted
	}
	for _, a := range wanted {
		if owner, ok := taken[a]; ok && exclusive(a) {
			return nil, &gatewayProblem{gatewayv1.GatewayReasonAddressNotUsable, fmt.Sprintf("address %s is in use by Gateway %s/%s", a, owner.Namespace, owner.Name)}
		}
		if !slices.Contains(has, a) {
			for owner := range x.ingress[a] {
				if owner != front {
					return nil, &gatewayProblem{gatewayv1.GatewayReasonAddressNotUsable, fmt.Sprintf("address %s is in use by Service %s", a, x.firstOwner(a, front))}
				}
			}
		}
	}
	for _, a := range wanted {
		if slices.Contains(has, a) && exclusive(a) { // who only asks for it keeps it from nobody
			taken[a] = g.Key
		}
	}
	plan.Addresses = wanted
	var lost *gatewayProblem
	addresses := make([]world.GatewayAddress, 0, len(has))
	for _, a := range has {
		if len(wanted) > 0 && !anyToo && !slices.Contains(wanted, a) {
			continue // not what was asked for
		}
		if exclusive(a) {
			if owner, ok := taken[a]; !ok {
				taken[a] = g.Key
			} else if owner != g.Key {
				lost = &gatewayProblem{gatewayv1.GatewayReasonAddressNotUsable, fmt.Sprintf("address %s is in use by Gateway %s/%s", a, owner.Namespace, owner.Name)}
				continue
			}
		}
		addresses = append(addresses, world.GatewayAddress{Type: addressType(a), Value: a})
	}
	for _, a := range wanted {
		if !slices.ContainsFunc(addresses, func(has world.GatewayAddress) bool { return has.Value == a }) {
			message := fmt.Sprintf("address %s was asked for, and the %s Service %s/%s does not have it", a, kind, front.Namespace, front.Name)
			instead := func(other string) bool {
				return slices.Contains(has, other) && strings.Contains(other, ":") == strings.Contains(a, ":")
			}
			switch beside := slices.IndexFunc(wanted, instead); {
			case plan.ServiceType != typeClusterIP:
			case beside >= 0:
				message = fmt.Sprintf("address %s was asked for beside %s, and a Service of type ClusterIP has one address of each family", a, wanted[beside])
			case x.made(g.Key) != nil:
				message += fmt.Sprintf(": cluster IPs do not change, so delete Service %s/%s, and it is made again", front.Namespace, front.Name)
			}
			return addresses, &gatewayProblem{gatewayv1.GatewayReasonAddressNotUsable, message}
		}
	}
	if unfronted != nil {
		return addresses, unfronted
	}
	if len(addresses) == 0 && lost != nil {
		return nil, lost
	}
	if g.Class == ClassWaypoint && len(g.Status) == 0 && !x.takesConnections(g.Key) {
		return nil, &gatewayProblem{gatewayv1.GatewayReasonAddressNotAssigned,
			fmt.Sprintf("no pod behind Service %s/%s is ready yet: until the first one is, connections go past the waypoint", front.Namespace, front.Name)}
	}
	if len(addresses) == 0 {
		return nil, &gatewayProblem{gatewayv1.GatewayReasonAddressNotAssigned,
			fmt.Sprintf("the %s Service %s/%s has no address yet", kind, front.Namespace, front.Name)}
	}
	return addresses, nil
}

// firstOwner names the first other Service that has a load balancer's address.
func (x *index) firstOwner(address string, not world.Key) string {
	for _, k := range slices.SortedFunc(maps.Keys(x.ingress[address]), world.Key.Compare) {
		if k != not {
			return k.Namespace + "/" + k.Name
		}
	}
	return ""
}

func addressType(a string) string {
	if _, err := netip.ParseAddr(a); err == nil {
		return addressIP
	}
	return addressHostname
}
