// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"fmt"
	"net/netip"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// What one resource may hold. A resource beyond a bound is rejected: the bounds are far above what clusters hold, and keep
// one bad resource from costing every proxy its memory.
const (
	maxName       = mesh.MaxName
	maxUID        = 2048 // bytes of a workload uid, which joins several names
	maxIdentity   = mesh.MaxIdentity
	maxValue      = mesh.MaxValue
	maxPEM        = mesh.MaxPEM
	maxLabelValue = 1024            // bytes of strings that are only told, such as canonical names
	maxAddresses  = 256             // addresses of one workload; VIPs of one service are bounded by maxMembers
	maxListener   = 571             // bytes of a listener's name, or of "namespace/set/listener": 63 + 253 + 253, and what is between them
	maxMembers    = mesh.MaxMembers // ports, SANs, VIPs or exports of one resource
	maxServices   = 16384           // services that one workload belongs to
	maxPolicies   = 4096            // policies that one workload names
	maxMatches    = 1 << 20         // values in all matches of one policy together
)

// checkHeld bounds how many names a subscriber, of everything or on demand, may say that it holds.
func checkHeld(n int, everything bool) error {
	if n > maxHeldNames && !everything || n > maxKnownNames {
		return errTooManyKnown
	}
	return nil
}

// checkNames bounds the names that a subscriber writes, of which we keep some for as long as its stream lasts.
func checkNames(r *discovery.DeltaDiscoveryRequest) error {
	for _, names := range [][]string{r.GetResourceNamesSubscribe(), r.GetResourceNamesUnsubscribe()} {
		for _, name := range names {
			if len(name) > maxUID {
				return errLongName
			}
		}
	}
	for name, v := range r.GetInitialResourceVersions() {
		if len(name) > maxUID || len(v) > maxName {
			return errLongName
		}
	}
	return nil
}

// reader decodes the fields of one resource and keeps the first thing that was wrong with it.
// Its methods give zero values once something is wrong, so that callers may go on and look at err at the end.
type reader struct{ err error }

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

// text gives s if it has at most limit bytes.
func (r *reader) text(field, s string, limit int) string {
	if len(s) > limit {
		r.fail("%s has %d bytes, at most %d are accepted", field, len(s), limit)
		return ""
	}
	return s
}

// must gives s if it has between 1 and limit bytes.
func (r *reader) must(field, s string, limit int) string {
	if s == "" {
		r.fail("%s is empty", field)
	}
	return r.text(field, s, limit)
}

// or gives s, or the default if s is empty.
func (r *reader) or(field, s, empty string, limit int) string {
	if s == "" {
		return empty
	}
	return r.text(field, s, limit)
}

// count says whether a list of n may be read.
func (r *reader) count(field string, n, limit int) bool {
	if n > limit {
		r.fail("%s has %d entries, at most %d are accepted", field, n, limit)
	}
	return r.err == nil
}

// port gives p if it is a port number; 0 is one only if it may be.
func (r *reader) port(field string, p uint32, mayBeZero bool) uint16 {
	if p > 65535 || p == 0 && !mayBeZero {
		r.fail("%s is %d, which is no port", field, p)
		return 0
	}
	return uint16(p)
}

// addr reads 4 or 16 bytes. An IPv4 address in IPv6 form is taken as the IPv4 address that it is.
func (r *reader) addr(field string, b []byte) netip.Addr {
	a, ok := netip.AddrFromSlice(b)
	if !ok {
		r.fail("%s has %d bytes, an address has 4 or 16", field, len(b))
	}
	return a.Unmap()
}

// prefix reads a CIDR; one that is not valid is an error.
func (r *reader) prefix(field string, b []byte, length uint32) netip.Prefix {
	addr, bits := r.addr(field, b), int64(length)
	if len(b) == 16 && addr.Is4() {
		bits -= 96 // the length counted the prefix that made it an IPv4 address in IPv6 form
	}
	if bits < 0 || bits > int64(addr.BitLen()) {
		r.fail("%s %s has a prefix length of %d", field, addr, length)
		return netip.Prefix{}
	}
	return netip.PrefixFrom(addr, int(bits))
}

// serviceKey reads "namespace/hostname".
func (r *reader) serviceKey(field, namespace, hostname string) mesh.ServiceKey {
	return mesh.ServiceKey{
		Namespace: r.must(field+" namespace", namespace, maxName),
		Hostname:  r.must(field+" hostname", hostname, maxName),
	}
}
