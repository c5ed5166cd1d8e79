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
//	relays    client ── relay ──── TCP or TLS ──── relay ──── server, captured as for the proxies, and with the relays' sockets where theirs are
type nodeStage struct {
	rig     *rig.Rig
	east    *rig.Cluster
	proxies [2]*rig.Proxy
	// client and server are the mesh's; plainClient and plainServer are not.
	client, plainClient *nodeApp
	server, plainServer *nodeApp
	through, direct     string // addresses of the servers, without ports
	// profiles are being written, if they are asked for.
	profiles sync.WaitGroup
}

func newNodeStage(ctx context.Context) (s *nodeStage, err error) {
	r, err := rig.New()
	if err != nil {
		return nil, err
	}
	s = &nodeStage{rig: r, east: r.Cluster("east")}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	for i := range s.proxies {
		n, err := s.east.Node()
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
		p, err := s.east.Nodes[place.node].Pod(place.name)
		if err == nil && place.enrolled {
			err = p.Enrol(ctx)
		}
		if err == nil {
			*place.app, err = startApp(r, p)
		}
		if err != nil {
			return nil, err
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
	var spaces []*rig.Space
	for _, p := range s.proxies {
		spaces = append(spaces, p.Space)
	}
	observe(ctx, &s.profiles, spaces)
}

// observe writes profiles of the processor time of the proxies and gateways whose namespaces these are to numbered files, if they are asked for.
func observe(ctx context.Context, running *sync.WaitGroup, spaces []*rig.Space) {
	file, _ := ctx.Value(subjectFile{}).(string)
	if file == "" {
		return
	}
	for i, space := range spaces {
		running.Go(func() {
			profile, err := space.Get(ctx, fmt.Sprintf("http://127.0.0.1:15000/debug/pprof/profile?seconds=%d", subjectFor))
			if err == nil {
				err = os.WriteFile(fmt.Sprintf("%s.%d", file, i), profile, 0o644)
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, "scoreboard: profile of a proxy:", err)
			}
		})
	}
}

// relays is a pair of them, in pods of their own that are captured as the mesh's are, and the client of the near one's pod.
type relays struct {
	client    *nodeApp
	address   string // which the client is to call; the port is the server's
	processes [2]*rig.Process
}

// relays starts two relays of a kind that lead to a port of a server. They are processes of their own.
func (s *nodeStage) relays(ctx context.Context, kind, port string) (*relays, error) {
	var pods [2]*rig.Pod
	var apps, middle [2]*nodeApp
	for i, name := range [2]string{"relayed-client", "relayed-server"} {
		var err error
		if pods[i], err = s.east.Nodes[i].Pod(name); err != nil {
			return nil, err
		}
		if err := pods[i].Capture(); err != nil {
			return nil, err
		}
		if apps[i], err = startApp(s.rig, pods[i]); err != nil {
			return nil, err
		}
		if middle[i], err = startApp(s.rig, pods[i]); err != nil {
			return nil, err
		}
	}
	if _, err := apps[1].do(ctx, appOrder{Do: "serve"}); err != nil {
		return nil, err
	}
	far := appOrder{Do: kind, Authority: s.rig.Authority(), Serving: true, Listen: "0.0.0.0:15008", To: net.JoinHostPort("127.0.0.1", port)}
	if _, err := middle[1].do(ctx, far); err != nil {
		return nil, fmt.Errorf("far relay: %w", err)
	}
	near := appOrder{Do: kind, Authority: s.rig.Authority(), Listen: "0.0.0.0:15001", To: pods[1].Address.String() + ":15008"}
	if _, err := middle[0].do(ctx, near); err != nil {
		return nil, fmt.Errorf("near relay: %w", err)
	}
	return &relays{apps[0], net.JoinHostPort(pods[1].Address.String(), port), [2]*rig.Process{middle[0].Process, middle[1].Process}}, nil
}
