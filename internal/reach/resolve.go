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

// resolved gives a plan whose next hop is known by name the address that the name has now, by the proxy's own resolver: of a family that the
// plan allows, rather of the one that the application dialled. The identities that the next hop must prove stay as they are, so a false
// answer leads nowhere. Addresses that no other host can have are left out: whoever owns the name, maybe in another cluster, does not get to knock at
// the doors of this one.
func resolved(ctx context.Context, r Resolver, plan Plan) (Plan, error) {
	addrs, err := r.LookupNetIP(ctx, "ip", plan.Host)
	if err != nil {
		return plan, &HopError{Reason: ReasonConnect, Err: fmt.Errorf("resolve %s: %w", plan.Host, err)}
	}
	addrs = slices.DeleteFunc(addrs, func(a netip.Addr) bool {
		a = a.Unmap()
		return a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast()
	})
	if len(addrs) == 0 {
		return plan, &HopError{Reason: ReasonConnect, Err: fmt.Errorf("resolve %s: it has no address that another host could have", plan.Host)}
	}
	addr, ok := directory.Address(&mesh.Workload{Addresses: addrs}, plan.Families, plan.IPv6)
	if !ok {
		return plan, &HopError{Reason: ReasonWrongFamily, Err: fmt.Errorf("%s has no address of a family that is allowed, only %v", plan.Host, addrs)}
	}
	plan.Dial = netip.AddrPortFrom(addr, plan.Dial.Port())
	if plan.TargetPort != 0 {
		plan.Target = netip.AddrPortFrom(addr, plan.TargetPort).String()
	}
	return plan, nil
}
