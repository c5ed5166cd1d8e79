// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nodeproxy_test

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/redirect"
)

// TestUpgradeAnswersEveryQuery replaces the proxy while pods ask, each query once: a lost packet would cost a resolver seconds.
func TestUpgradeAnswersEveryQuery(t *testing.T) {
	w := newWorld(t)
	w.east.pod("slow", "10.77.0.54", nil).serveDNS(dns.HandlerFunc(func(rw dns.ResponseWriter, q *dns.Msg) {
		time.Sleep(50 * time.Millisecond) // an upgrade finds some that wait
		rw.WriteMsg(new(dns.Msg).SetReply(q))
	}), "10.77.0.54")
	stop := make(chan struct{})
	var running sync.WaitGroup
	var asked atomic.Int64
	for i := range 8 {
		name, network := []string{"remote.demo.svc.cluster.local.", "elsewhere.example."}[i%2], []string{"udp", "udp", "udp", "tcp"}[i/2]
		running.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if reply, err := w.client.ask(network, "10.77.0.54", new(dns.Msg).SetQuestion(name, dns.TypeA)); err != nil || reply.Rcode != dns.RcodeSuccess {
					t.Errorf("%s over %s: %v, %v", name, network, reply, err)
				}
				asked.Add(1)
			}
		})
	}
	wait(t, "queries", func() bool { return asked.Load() > 100 })
	w.east.start()
	before := asked.Load()
	wait(t, "queries to either proxy", func() bool { return asked.Load() > before+100 })
	w.stopEast()
	before = asked.Load()
	wait(t, "queries to the new proxy", func() bool { return asked.Load() > before+100 })
	close(stop)
	running.Wait()
	t.Logf("%d queries", asked.Load())
}

// TestDeadServer has a pod ask a server that never answers, as often as it may: names of the mesh are answered meanwhile, what is too
// much is refused at once, and the log says so.
func TestDeadServer(t *testing.T) {
	w := newWorld(t)
	w.east.pod("dead", "10.77.0.54", nil).serveDNS(dns.HandlerFunc(func(dns.ResponseWriter, *dns.Msg) {}), "10.77.0.54")
	const queries = 300 // a pod may have 256 waiting
	var sockets []net.Conn
	must(t, redirect.Inside(w.client.file, func() error {
		for range queries {
			nc, err := net.Dial("udp", "10.77.0.54:53")
			if err != nil {
				return err
			}
			sockets = append(sockets, nc)
		}
		return nil
	}))
	raw, err := new(dns.Msg).SetQuestion("elsewhere.example.", dns.TypeA).SetEdns0(1232, false).Pack()
	must(t, err)
	for _, nc := range sockets {
		defer nc.Close()
		_, err := nc.Write(raw)
		must(t, err)
	}
	for i := range 20 {
		reply, err := w.client.ask("udp", "10.77.0.54", new(dns.Msg).SetQuestion("remote.demo.svc.cluster.local.", dns.TypeA))
		if got := lastAddress(reply); err != nil || got != "240.240.0.5" {
			t.Fatalf("a name of the mesh: %q, %v", got, err)
		}
		if i == 0 && w.east.log.first(`"DNS query refused"`, `"reason":"UPSTREAM_TIMEOUT"`) != "" {
			t.Error("a name of the mesh waited until the dead server was given up")
		}
	}
	var refused atomic.Int64
	var running sync.WaitGroup
	for _, nc := range sockets {
		running.Go(func() {
			nc.SetReadDeadline(time.Now().Add(15 * time.Second))
			reply, err := (&dns.Conn{Conn: nc}).ReadMsg()
			if err != nil || reply.Rcode != dns.RcodeServerFailure {
				t.Errorf("to a query that is not answered: %v, %v", reply, err)
				return
			}
			for _, option := range reply.IsEdns0().Option {
				if why, ok := option.(*dns.EDNS0_EDE); ok && why.ExtraText == "POD_LIMIT" {
					refused.Add(1)
				}
			}
		})
	}
	running.Wait()
	if n := refused.Load(); n != queries-256 {
		t.Errorf("%d of %d queries were too many, want %d", n, queries, queries-256)
	}
	w.east.log.find(t, `"DNS query refused"`, `"reason":"POD_LIMIT"`, `"workload":"demo/client"`, `"name":"elsewhere.example."`)
	w.east.log.find(t, `"DNS query refused"`, `"reason":"UPSTREAM_TIMEOUT"`, `10.77.0.54:53`)
}
