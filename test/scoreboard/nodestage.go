// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"github.com/isthmus-mesh/isthmus/test/rig"
)

// nodeStage is what the rows about a connection through two node proxies have in common: two nodes with a proxy each; a client on one and a server on the
// other that are part of the mesh, and a client and a server at the same places that are not.
//
//	through   client ─(captured)─ proxy ══ tunnel ══ proxy ── server
//	direct    client ──────────────────────────────────────── server
//	relays    client ── relay ──── TCP or TLS ──── relay ──── server, with each relay in its neighbour's pod, which is where the proxies' sockets are, too
type nodeStage struct {
	rig     *rig.Rig
	proxies [2]*rig.Proxy
	// client and server are the mesh's; plainClient and plainServer are not.
	client, plainClient *nodeApp
	server, plainServer *nodeApp
	through, direct     string // addresses of the servers, without ports
	// profiles are being written, if they are asked for.
	profiles sync.WaitGroup
	// plainPods are those of the client and the server that are not in the mesh.
	plainPods [2]*rig.Pod
}

func newNodeStage(ctx context.Context) (s *nodeStage, err error) {
	r, err := rig.New()
	if err != nil {
		return nil, err
	}
	s = &nodeStage{rig: r}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	east := r.Cluster("east")
	for i := range s.proxies {
		n, err := east.Node()
		if err != nil {
			return nil, err
		}
		if s.proxies[i], err = n.StartProxy(ctx, rig.ProxyOptions{}); err != nil {
			return nil, err
		}
	}
	for _, place := range []struct {
		node     int
		name     string
		enrolled bool
		app      **nodeApp
		address  *string
	}{
		{0, "client", true, &s.client, nil},
		{1, "server", true, &s.server, &s.through},
		{0, "plain-client", false, &s.plainClient, nil},
		{1, "plain-server", false, &s.plainServer, &s.direct},
	} {
		p, err := east.Nodes[place.node].Pod(place.name)
		if err == nil && place.enrolled {
			err = p.Enrol(ctx)
		}
		if err == nil {
			*place.app, err = startApp(r, p)
		}
		if err != nil {
			return nil, err
		}
		if !place.enrolled {
			s.plainPods[place.node] = p
		}
		if place.address != nil {
			*place.address = p.Address.String()
			if _, err := (*place.app).do(ctx, appOrder{Do: "serve"}); err != nil {
				return nil, err
			}
		}
	}
	r.Publish()
	for _, p := range s.proxies {
		if err := p.Ready(ctx); err != nil {
			return nil, err
		}
	}
	s.observe(ctx)
	return s, nil
}

// closeWith takes the stage down, and tells if that fails.
func (s *nodeStage) closeWith(err *error) {
	s.profiles.Wait()
	*err = errors.Join(*err, s.rig.Close())
}

// subjectFor is how long the proxies are profiled from the start of the row on, if -subject is given, in seconds. Between its own slices a proxy does nothing.
const subjectFor = 20

// observe writes profiles of the processor time of both proxies, if they are asked for.
func (s *nodeStage) observe(ctx context.Context) {
	file, _ := ctx.Value(subjectFile{}).(string)
	if file == "" {
		return
	}
	for i, p := range s.proxies {
		s.profiles.Go(func() {
			profile, err := p.Space.Get(ctx, fmt.Sprintf("http://127.0.0.1:15000/debug/pprof/profile?seconds=%d", subjectFor))
			if err == nil {
				err = os.WriteFile(fmt.Sprintf("%s.%d", file, i), profile, 0o644)
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, "scoreboard: profile of a proxy:", err)
			}
		})
	}
}

// The ports of relays, one pair for each kind and each port that it leads to.
var relayPorts = map[string][2]string{
	"relay" + portByte: {"9001", "9101"}, "relay-tls" + portSink: {"9002", "9102"}, "relay-tls" + portEcho: {"9003", "9103"},
}

// relayed starts two relays of a kind that lead to a port of the server that is not in the mesh, and gives the address for the client that is not. They are processes
// of their own, near and far.
func (s *nodeStage) relayed(ctx context.Context, kind, port string) (address string, near, far *nodeApp, err error) {
	ports := relayPorts[kind+port]
	if near, err = startApp(s.rig, s.plainPods[0]); err != nil {
		return "", nil, nil, err
	}
	if far, err = startApp(s.rig, s.plainPods[1]); err != nil {
		return "", nil, nil, err
	}
	order := appOrder{Do: kind, Authority: s.rig.Authority(), Serving: true, Listen: "0.0.0.0:" + ports[1], To: net.JoinHostPort("127.0.0.1", port)}
	if _, err = far.do(ctx, order); err != nil {
		return "", nil, nil, fmt.Errorf("far relay: %w", err)
	}
	order.Serving, order.Listen, order.To = false, "127.0.0.1:"+ports[0], net.JoinHostPort(s.direct, ports[1])
	if _, err = near.do(ctx, order); err != nil {
		return "", nil, nil, fmt.Errorf("near relay: %w", err)
	}
	return order.Listen, near, far, nil
}
