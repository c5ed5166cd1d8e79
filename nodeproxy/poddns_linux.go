// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/internal/dns"
)

const (
	// maxQueriesPerPod bounds the DNS queries of one pod that wait for servers upstream. At a millisecond each, which is what a server
	// in the cluster takes, 256 are 256,000 in a second; a dead server is asked 51 times in one.
	maxQueriesPerPod = 256
	// maxQueries bounds those of all pods. Each holds a goroutine, a socket and 4 KiB, so that all of them hold some 32 MiB; over TCP up to
	// 64 KiB more, while an answer of that length comes.
	maxQueries = 4096
	// queryBuffer is how many bytes of queries may wait to be read. The kernel allows itself twice as much and counts some 800 bytes for
	// each small packet, so that 2,600 find room; the usual buffer of 208 KiB drops the last of 300 that come at once.
	queryBuffer = 1 << 20
	// complaintPause is how long a pod's refusals for one reason go unlogged after one was logged.
	complaintPause = 10 * time.Second
)

// startDNS serves DNS on loopback, where the pod's rules lead its queries. A kernel may have no IPv6.
func (p *pod) startDNS() error {
	track := p.proxy.sockets.trackConnections(p.namespace)
	if err := track.ready(); err != nil {
		p.proxy.o.Log.Error(err, "the pod's own DNS servers are known for its queries over TCP only, the proxy's are asked instead", "workload", p.String())
	}
	context.AfterFunc(p.carrying, track.close)
	server := p.dnsServer()
	for _, open := range openDNS {
		overUDP, overTCP := open[0], open[1]
		if overUDP.optional && (!p.entrance.has(overUDP) || !p.entrance.has(overTCP)) {
			continue
		}
		packets, err := p.entrance.packets(overUDP)
		if err != nil {
			return err
		}
		streams, err := p.entrance.listener(overTCP)
		if err != nil {
			shut(packets)
			return err
		}
		p.serveDNS(server, track, packets, streams)
	}
	return nil
}

// serveDNS serves until the pod stops accepting. What was asked until then is answered as connections are carried to their end.
func (p *pod) serveDNS(server *dns.Server, track *connectionTrack, packets *net.UDPConn, streams *net.TCPListener) {
	widen(packets)
	local := addrPort(packets.LocalAddr())
	p.connectionsAlive.Go(func() {
		if !p.mayTake() {
			shut(packets)
			return
		}
		server.ServePacket(p.accepting, p.carrying, packets, func(from net.Addr) netip.AddrPort {
			to, err := track.meant(addrPort(from), local)
			return p.redirected(to, local, err)
		})
	})
	p.connectionsAlive.Go(func() {
		if !p.mayTake() {
			shut(streams)
			return
		}
		server.ServeStream(p.accepting, p.carrying, streams, func(nc net.Conn) netip.AddrPort {
			tcp, ok := nc.(*net.TCPConn)
			if !ok {
				return netip.AddrPort{}
			}
			return p.redirected(originalDst(tcp), local, nil)
		})
	})
}

// widen lets a burst of queries wait to be read, rather than be dropped. Where the kernel does not let us, its usual buffer has to do.
func widen(packets *net.UDPConn) {
	raw, err := packets.SyscallConn()
	if err != nil {
		return // closed, which its reader finds out
	}
	raw.Control(func(fd uintptr) { //nolint:errcheck // the same
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, queryBuffer) != nil {
			packets.SetReadBuffer(queryBuffer) //nolint:errcheck // tried, and not needed
		}
	})
}

// redirected is where a query was meant to go, or nothing if that is not known, or was ourselves.
func (p *pod) redirected(to, local netip.AddrPort, err error) netip.AddrPort {
	if err == nil && to.IsValid() && to != local {
		return to
	}
	p.proxy.metrics.dnsUnknownServer.Inc()
	if err != nil {
		p.proxy.o.Log.V(1).Info("DNS server that was asked is not known", "workload", p.String(), "cause", err.Error())
	}
	return netip.AddrPort{}
}

// dnsServer answers the pod's queries: services from the view that is current at that moment, the rest from whom the pod had asked,
// through sockets in the pod's namespace.
func (p *pod) dnsServer() *dns.Server {
	x := p.proxy
	client := dns.Client{Network: x.o.Network, Cluster: x.o.Cluster, Namespace: p.info.Namespace, Domain: x.o.ClusterDomain}
	forwarder := &dns.Forwarder{
		Servers: func() []netip.AddrPort { return x.o.Nameservers },
		Dial: func(ctx context.Context, network string, server netip.AddrPort) (net.Conn, error) {
			if network == "udp" {
				return x.sockets.dialPacket(ctx, p.namespace, server)
			}
			nc, _, err := x.sockets.dial(ctx, p.namespace, server, netip.Addr{}, nil)
			if err != nil {
				return nil, err
			}
			return nc, nil
		},
	}
	refusals := &refusedQueries{}
	return &dns.Server{
		Resolve: func(name string) (dns.Answer, dns.Found) {
			v, client := x.o.View.Load(), client
			client.Network = x.networkOf(p.lookup(v))
			return dns.Resolve(v, client, name)
		},
		Forward: forwarder.Forward,
		Cache:   dns.NewCache(),
		Slots:   dns.NewSlots(maxQueriesPerPod, dns.ReasonPodBusy, x.queries),
		Counters: dns.Counters{
			Request: x.metrics.dnsRequests.Inc,
			Cached:  x.metrics.dnsCached.Inc,
			Forwarded: func(took time.Duration, err error) {
				x.metrics.dnsUpstream.Inc()
				if err != nil {
					x.metrics.dnsFailures.Inc()
				}
				x.metrics.dnsDuration.Observe(took.Seconds())
			},
			Refused: func(why dns.Reason, name string, err error) {
				x.metrics.dnsRefused.WithLabelValues(string(why)).Inc()
				unsaid, ok := refusals.say(why, time.Now())
				if !ok {
					return
				}
				line := []any{"workload", p.String(), "reason", string(why), "name", name, "unlogged", unsaid}
				if err != nil {
					line = append(line, "error", err.Error())
				}
				x.o.Log.Info("DNS query refused", line...)
			},
		},
	}
}

// refusedQueries keeps one pod from filling the log.
type refusedQueries struct {
	mu     sync.Mutex
	said   map[dns.Reason]time.Time
	unsaid map[dns.Reason]int
}

// say answers whether to log a refusal now, and how many for the same reason were not since the last one.
func (r *refusedQueries) say(why dns.Reason, now time.Time) (unsaid int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last, before := r.said[why]; before && now.Sub(last) < complaintPause {
		r.unsaid[why]++
		return 0, false
	}
	if r.said == nil {
		r.said, r.unsaid = map[dns.Reason]time.Time{}, map[dns.Reason]int{}
	}
	unsaid = r.unsaid[why]
	r.said[why], r.unsaid[why] = now, 0
	return unsaid, true
}
