// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"net/netip"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Caller is a connection as policies see it where they are enforced.
type Caller struct {
	// Peer is what the other end of the tunnel that ends here proved; zero for plaintext.
	Peer mesh.Identity
	// Source is the address from which the connection came: of the pod, or of the gateway in between.
	Source netip.Addr
	// Destination is what it reaches: at a pod, the pod's address and port; at a gateway, the service's.
	Destination netip.AddrPort
	// Request is what is asked; nil: bytes, or what is not looked into. Of those, a DENY rule holds whatever it asks of requests, and an ALLOW rule that asks
	// something does not.
	Request *Request
}

// Verdict is the answer to whether a caller may.
type Verdict struct {
	Allowed bool
	// Policy is the one that decided, "namespace/name"; empty if none did: nothing to say, or no ALLOW policy matched.
	Policy string
	// DryAllowed and DryPolicy are the same if the policies in dry run were in force as well.
	DryAllowed bool
	DryPolicy  string
}

// Authorize judges a caller by the policies that apply to its destination: any DENY that matches denies; without any ALLOW the rest
// is allowed; otherwise one ALLOW must match. It is pure, and the meaning of what Judge answers faster.
func Authorize(policies []*mesh.Policy, c Caller) Verdict {
	s := subjectOf(c)
	var v Verdict
	v.Allowed, v.Policy = decide(policies, &s, false)
	v.DryAllowed, v.DryPolicy = decide(policies, &s, true)
	return v
}

func decide(policies []*mesh.Policy, s *subject, dryToo bool) (allowed bool, by string) {
	allows := false
	s.deny, s.spent = true, 0
	for _, p := range policies {
		if p.DryRun && !dryToo {
			continue
		}
		if p.Action == mesh.Deny {
			if matches(p, s) {
				return false, p.Key()
			}
			continue
		}
		allows = true
	}
	if !allows {
		return true, ""
	}
	s.deny = false
	for _, p := range policies {
		if p.Action == mesh.Allow && (dryToo || !p.DryRun) && matches(p, s) {
			return true, p.Key()
		}
	}
	return false, ""
}
