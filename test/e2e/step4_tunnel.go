// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/test/e2e/traffic"
)

// clientIdentity is what the client's certificate proves in either cluster.
const clientIdentity = "spiffe://cluster.local/ns/demo/sa/client"

// proveTunnel makes requests from west, some of which are answered in east, and reads what gateway, node proxy and WAN
// saw of them.
func (d *demo) proveTunnel(ctx context.Context) error {
	if err := d.setGlobal(ctx, true); err != nil {
		return err
	}
	if err := d.awaitBoth(ctx, d.west, helloURL); err != nil {
		return err
	}
	wan, err := startCapture(d.lab, d.marker)
	if err != nil {
		return err
	}
	defer wan.close()

	began := time.Now().Add(-time.Second).Truncate(time.Second) // logs are asked for by the second
	answers, err := request(ctx, d.west, helloURL, d.marker, 150, 20*time.Millisecond)
	if err != nil {
		return err
	}
	remote := answers.By(traffic.Cluster)["east"]
	d.Check("west's client is answered in both clusters", remote > 0 && len(answers.Failed()) == 0, "%s; %s", traffic.Counts(answers.By(traffic.Cluster)), failures(answers))
	echoed := answers.By(func(r traffic.Result) string { return r.Echo })[d.marker]
	d.Check("every answer carries the request's marker back", echoed == len(answers), "%d of %d", echoed, len(answers))

	if err := d.checkGatewayLog(ctx, remote); err != nil {
		return err
	}
	if err := d.checkDestinationLog(ctx, began, remote); err != nil {
		return err
	}
	return d.checkWAN(ctx, wan)
}

// awaitBoth waits until a client is answered by both clusters.
func (d *demo) awaitBoth(ctx context.Context, c *cluster, url string) error {
	seen, ok := until(ctx, 20*time.Second, func(ctx context.Context) (string, bool) {
		answers, err := request(ctx, c, url, d.marker, 20, 10*time.Millisecond)
		if err != nil {
			return err.Error(), false
		}
		counts := answers.By(traffic.Cluster)
		return traffic.Counts(counts), len(counts) == 2
	})
	if !ok {
		return fmt.Errorf("%s from %s is not answered by both clusters: %s", url, c.Name, seen)
	}
	return nil
}

// checkGatewayLog reads what east's gateway says of the streams that it forwards: tunnels that are kept for many connections, and may have been there before.
func (d *demo) checkGatewayLog(ctx context.Context, connections int) error {
	var raw []byte
	var streams int
	outer := map[string]int{}
	seen, ok := until(ctx, 10*time.Second, func(ctx context.Context) (string, bool) {
		lines, text, err := accessLog(ctx, d.east, "gateway.networking.k8s.io/gateway-name="+gatewayName, time.Now().Add(-time.Hour))
		if err != nil {
			return err.Error(), false
		}
		raw, outer = text, map[string]int{}
		streams = 0
		for _, l := range lines {
			if l.Message == streamOpened && l.Peer == clientIdentity && l.Service == "hello.demo.svc.cluster.local:80" && l.Status == 200 {
				streams++
				outer[l.Outer]++
			}
		}
		return fmt.Sprintf("%d streams of %s for hello.demo.svc.cluster.local:80", streams, clientIdentity), streams > 0
	})
	d.Check("the gateway's log names the outer peer's identity and the service", ok, "%s", seen)
	d.Check("the gateway's log never holds what was sent", len(raw) > 0 && !bytes.Contains(raw, []byte(d.marker)), "%d bytes of log", len(raw))
	d.Check("tunnels are used again", streams > 0 && streams <= connections/2, "%d connections now; since the start %d inner tunnels, over %d outer connections", connections, streams, len(outer))
	return nil
}

// checkDestinationLog reads what east's node proxy says: it alone sees the true client.
func (d *demo) checkDestinationLog(ctx context.Context, since time.Time, want int) error {
	seen, ok := until(ctx, 10*time.Second, func(ctx context.Context) (string, bool) {
		lines, _, err := accessLog(ctx, d.east, "app=isthmus-nodeproxy", since)
		if err != nil {
			return err.Error(), false
		}
		n := 0
		for _, l := range lines {
			if l.Direction == "inbound" && l.Tunnel == "double-hbone" && l.Peer == clientIdentity && l.Network == "west" {
				n++
			}
		}
		return fmt.Sprintf("%d connections of %s in the inner tunnel, from network west", n, clientIdentity), n >= want
	})
	d.Check("the destination's log names the true source and the inner tunnel", ok, "%s, at least %d wanted", seen, want)
	return nil
}

// checkWAN looks for the marker on the WAN, and then shows that the capture would have seen it: the same text, sent
// in the clear to the gateway's port, is found.
func (d *demo) checkWAN(ctx context.Context, wan *capture) error {
	pause(ctx, 200*time.Millisecond)
	packets, marked, tunnel := wan.packets.Load(), wan.marked.Load(), wan.tunnel.Load()
	lost, err := wan.dropped()
	if err != nil {
		return err
	}
	d.Check("the WAN carried the tunnel", tunnel > 0 && lost == 0, "%d packets, %d bytes on port 15008, %d packets missed", packets, tunnel, lost)
	d.Check("the marker crossed the WAN zero times", marked == 0, "%d packets with it", marked)

	var gw gatewayv1.Gateway
	if err := d.east.client.Get(ctx, client.ObjectKey{Namespace: systemNamespace, Name: gatewayName}, &gw); err != nil {
		return err
	}
	conn, err := d.lab.Dial(ctx, "tcp", gw.Status.Addresses[0].Value+":15008")
	if err != nil {
		return fmt.Errorf("dial east's gateway from the WAN: %w", err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("GET / HTTP/1.1\r\n" + traffic.MarkerHeader + ": " + d.marker + "\r\n\r\n")); err != nil {
		return err
	}
	d.Check("control: the same text in the clear is seen by the capture", wan.awaitMarker(5*time.Second), "%d packets with it", wan.marked.Load())
	return nil
}
