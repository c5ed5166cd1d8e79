// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nodeproxy_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/redirect"
)

// TestTheSystemsResolver asks as applications do: through the C library, with a pod's resolv.conf, whose search domains complete names
// and whose servers know nothing of the mesh.
func TestTheSystemsResolver(t *testing.T) {
	w := newWorld(t)
	for addr, answer := range map[string]string{"10.77.0.53": "192.0.2.1", "10.77.0.54": "192.0.2.2"} {
		w.east.pod("dns-"+answer, addr, nil).serveDNS(dns.HandlerFunc(func(rw dns.ResponseWriter, q *dns.Msg) {
			reply := new(dns.Msg).SetRcode(q, dns.RcodeNameError)
			if q.Question[0].Name == "elsewhere.example." {
				reply.Rcode = dns.RcodeSuccess
				if q.Question[0].Qtype == dns.TypeA {
					rr, _ := dns.NewRR("elsewhere.example. 5 IN A " + answer)
					reply.Answer = append(reply.Answer, rr)
				}
			}
			rw.WriteMsg(reply)
		}), addr)
	}
	const search = "search demo.svc.cluster.local svc.cluster.local cluster.local\n"
	for _, tc := range []struct {
		policy, conf, elsewhere string
		short                   bool // search domains complete names
	}{
		{"ClusterFirst", "nameserver 10.77.0.53\n" + search + "options ndots:5\n", "192.0.2.1", true},
		{"ClusterFirst over TCP", "nameserver 10.77.0.53\n" + search + "options ndots:5 use-vc\n", "192.0.2.1", true},
		{"ClusterFirst, few dots, trusting", "nameserver 10.77.0.53\n" + search + "options ndots:1 edns0 trust-ad\n", "192.0.2.1", true},
		{"None, first server away", "nameserver 10.77.0.77\nnameserver 10.77.0.54\n" + search + "options ndots:5 timeout:1\n", "192.0.2.2", true},
		{"Default", "nameserver 10.77.0.54\n", "192.0.2.2", false},
	} {
		conf := filepath.Join(t.TempDir(), "resolv.conf")
		must(t, os.WriteFile(conf, []byte(tc.conf), 0o644))
		want := map[string]string{"remote.demo.svc.cluster.local": "240.240.0.5", "elsewhere.example": tc.elsewhere, "nobody.demo.svc.cluster.local": ""}
		for _, name := range []string{"remote", "remote.demo", "remote.demo.svc"} {
			if want[name] = ""; tc.short {
				want[name] = "240.240.0.5"
			}
		}
		for name, addr := range want {
			var out []byte
			var err error
			must(t, redirect.Inside(w.client.file, func() error {
				script := fmt.Sprintf("mount --bind %s /etc/resolv.conf && exec getent ahosts %s", conf, name)
				out, err = exec.Command("unshare", "-m", "sh", "-c", script).CombinedOutput()
				return nil
			}))
			var got []string
			for line := range strings.Lines(string(out)) {
				if fields := strings.Fields(line); len(fields) > 0 && !slices.Contains(got, fields[0]) {
					got = append(got, fields[0])
				}
			}
			if joined := strings.Join(got, " "); joined != addr || (err == nil) != (addr != "") {
				t.Errorf("%s: %s is %q, %v; want %q", tc.policy, name, joined, err, addr)
			}
		}
	}
}
