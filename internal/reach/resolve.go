// SPDX-License-Identifier: Apache-2.0

package reach

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Resolver looks hosts up; *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// resolved gives plans for the addresses that a plan's next hop, which is known by name, has now, by the proxy's own resolver: of the families that the
// plan allows, those of the one that the application dialled first, and maxAddresses at most. The identities that the next hop must prove stay as they are, so a false
// answer leads nowhere. Addresses that no other host can have are left out: whoever owns the name, maybe in another cluster, does not get to knock at
// the doors of this one.
func resolved(ctx context.Context, r Resolver, plan Plan) ([]Plan, error) {
	addrs, err := r.LookupNetIP(ctx, "ip", plan.Host)
	if err != nil {
		return nil, &HopError{Reason: ReasonConnect, Err: fmt.Errorf("resolve %s: %w", plan.Host, err)}
	}
	addrs = slices.DeleteFunc(addrs, func(a netip.Addr) bool {
		a = a.Unmap()
		return a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast()
	})
	if len(addrs) == 0 {
		return nil, &HopError{Reason: ReasonConnect, Err: fmt.Errorf("resolve %s: it has no address that another host could have", plan.Host)}
	}
	var plans []Plan
	for left := addrs; len(plans) < maxAddresses; {
		addr, ok := directory.Address(&mesh.Workload{Addresses: left}, plan.Families, plan.IPv6)
		if !ok {
			break
		}
		left = slices.DeleteFunc(slices.Clone(left), func(a netip.Addr) bool { return a.Unmap() == addr })
		to := plan
		to.Dial = netip.AddrPortFrom(addr, plan.Dial.Port())
		if plan.TargetPort != 0 {
			to.Target = netip.AddrPortFrom(addr, plan.TargetPort).String()
		}
		plans = append(plans, to)
	}
	if len(plans) == 0 {
		return nil, &HopError{Reason: ReasonWrongFamily, Err: fmt.Errorf("%s has no address of a family that is allowed, only %v", plan.Host, addrs)}
	}
	for i := range plans {
		plans[i].Several = len(plans) > 1
	}
	return plans, nil
}
