// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"context"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/dns"
)

// dnsServer answers a pod's queries: services from the view that is current at that moment, the rest from where the pod's own
// resolver would have had it, through sockets in the pod's namespace.
func (x *Proxy) dnsServer(p *pod) *dns.Server {
	client := dns.Client{Network: x.o.Network, Namespace: p.info.Namespace, Domain: x.o.ClusterDomain}
	forwarder := &dns.Forwarder{
		Servers: func() []netip.AddrPort { return x.o.Nameservers },
		Dial: func(ctx context.Context, network string, server netip.AddrPort) (net.Conn, error) {
			if network == "udp" {
				return x.sockets.dialPacket(ctx, p.namespace, server)
			}
			nc, _, err := x.sockets.dial(ctx, p.namespace, server, netip.Addr{})
			if err != nil {
				return nil, err
			}
			return nc, nil
		},
	}
	return &dns.Server{
		Resolve: func(name string) (dns.Answer, bool) { return dns.Resolve(x.o.View.Load(), client, name) },
		Forward: forwarder.Forward,
		Counters: dns.Counters{
			Request: x.metrics.dnsRequests.Inc,
			Forwarded: func(took time.Duration, err error) {
				x.metrics.dnsUpstream.Inc()
				if err != nil {
					x.metrics.dnsFailures.Inc()
				}
				x.metrics.dnsDuration.Observe(took.Seconds())
			},
		},
	}
}

// Nameservers reads the servers of a resolv.conf. The result is empty if there is none that can be read.
func Nameservers(path string) []netip.AddrPort {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return parseNameservers(string(data))
}

func parseNameservers(conf string) []netip.AddrPort {
	var out []netip.AddrPort
	for line := range strings.Lines(conf) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if addr, err := netip.ParseAddr(fields[1]); err == nil {
			out = append(out, netip.AddrPortFrom(addr.Unmap(), 53))
		}
	}
	return out
}
