// SPDX-License-Identifier: Apache-2.0

package world

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
)

// TestARangeThatIsNoneStillBounds: what came past the CRD must not be as if nobody had written a bound.
func TestARangeThatIsNoneStillBounds(t *testing.T) {
	for _, tc := range []struct {
		written []string
		in, out string // addresses within and not; empty: none
		bounds  int
	}{
		{nil, "", "", 0},
		{[]string{"10.4.0.0/14"}, "10.7.255.255", "10.8.0.0", 1},
		{[]string{"10.4.3.2/14"}, "10.4.0.1", "10.3.255.255", 1}, // bits of a host do not count
		{[]string{"10.4.0.0/14", "fd00:4::/48"}, "fd00:4::1", "fd00:5::1", 2},
		{[]string{"10.4.0.0"}, "", "10.4.0.0", 1},
		{[]string{"", "nonsense", "10.0.0.0/33"}, "", "10.0.0.1", 3},
		{[]string{"0.0.0.0/0"}, "198.51.100.1", "fd00::1", 1},
	} {
		r := &v1alpha1.RemoteCluster{Spec: v1alpha1.RemoteClusterSpec{Import: &v1alpha1.ImportLimits{PodCIDRs: tc.written}}}
		got := ReduceRemoteCluster("east", r).PodCIDRs
		holds := func(a string) bool {
			return slices.ContainsFunc(got, func(p netip.Prefix) bool { return p.Contains(netip.MustParseAddr(a)) })
		}
		if len(got) != tc.bounds || tc.in != "" && !holds(tc.in) || tc.out != "" && holds(tc.out) {
			t.Errorf("%q is %v", tc.written, got)
		}
	}
}
