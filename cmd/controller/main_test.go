// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	env := map[string]string{"CLUSTER_ID": "east", "POD_NAMESPACE": "mesh", "GATEWAY_IMAGE": "gateway:1"}
	s, err := parse([]string{"--leader-elect", "--cluster-id=west"}, func(k string) string { return env[k] })
	if err != nil || s.cluster != "west" || s.systemNamespace != "mesh" || s.gatewayImage != "gateway:1" || !s.leaderElect || s.trustDomain != "cluster.local" {
		t.Fatalf("got %+v, %v", s, err)
	}
	env["TRUST_DOMAIN_ALIASES"] = "a.example, cluster.local,,b.example,a.example"
	if s, err := parse(nil, func(k string) string { return env[k] }); err != nil || !slices.Equal(s.aliases, []string{"a.example", "b.example"}) {
		t.Errorf("aliases %q, %v", s.aliases, err)
	}
	for _, tc := range []struct{ arg, says string }{
		{"--cluster-id=", "--cluster-id"},
		{"--cluster-id=a/b", "--cluster-id"},
		{"--trust-domain=A b", "--trust-domain"},
		{"--trust-domain-aliases=a.example,A b", "--trust-domain-aliases"},
		{"--trust-domain-aliases=a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q", "--trust-domain-aliases"},
		{"--proxy-accounts=nodeproxy", "--proxy-accounts"},
		{"--max-certificate-ttl=1m", "--max-certificate-ttl"},
		{"--max-certificate-ttl=2161h", "--max-certificate-ttl"},
		{"--max-certificate-ttl=1d", "--max-certificate-ttl"},
		{"--remote-room=0", "--remote-room"},
		{"--remote-room=2000000", "--remote-room"},
		{"--profile-address=:6060", "--profile-address"},
		{"--profile-address=10.0.0.1:6060", "--profile-address"},
		{"surplus", "surplus"},
		{"--no-such-flag", "no-such-flag"},
	} {
		if _, err := parse([]string{tc.arg}, func(string) string { return "" }); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: got %v", tc.arg, err)
		}
	}
}
