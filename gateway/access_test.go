// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"strings"
	"testing"
)

func TestClaimedCluster(t *testing.T) {
	for baggage, want := range map[string]string{
		"":                      "",
		"k8s.cluster.name=west": "west",
		"k8s.namespace.name=shop, k8s.cluster.name = we%73t;x=y ,service.name=a": "west",
		"k8s.cluster.name=%zz":                                 "",
		"k8s.cluster.name=%ff":                                 "",
		"xk8s.cluster.name=west":                               "",
		"k8s.cluster.name=" + strings.Repeat("w", 254):         "",
		strings.Repeat("a=b,", 2000) + "k8s.cluster.name=west": "",
	} {
		if got := claimedCluster(baggage); got != want {
			t.Errorf("%.60q: %q, want %q", baggage, got, want)
		}
	}
}
