// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"

	"github.com/isthmus-mesh/isthmus/internal/ca"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
	"github.com/isthmus-mesh/isthmus/test/rig"
)

// ewPair is what the rows about one connection between clusters have in common: a client, a server on another node of its cluster, and one in another cluster.
//
//	local    client ─ proxy ══ tunnel ══ proxy ─ server, on another node of the same cluster
//	remote   client ─ proxy ══ tunnel in a tunnel ══ gateway ══ proxy ─ server, in another cluster
//	relays   client ─ relay ── TLS in TLS ── relay ── TLS ── relay ─ server, at the same places as remote, and not in the mesh
type ewPair struct {
	rig           *rig.Rig
	client        *nodeApp
	server        *nodeApp       // of remote
	local, remote string         // services, without ports
	path          []*rig.Process // of remote: proxy, gateway, proxy
	// near is the client's node, beside the local server's, and far the one of the other cluster.
	near, beside, far *rig.Node
	profiles          sync.WaitGroup // those that are being written
}

func newEWPair(ctx context.Context) (s *ewPair, err error) {
	r, err := rig.New()
	if err != nil {
		return nil, err
	}
	s = &ewPair{rig: r}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	east, west := r.Cluster("east"), r.Cluster("west")
	var proxies []*rig.Proxy
	for _, c := range []*rig.Cluster{east, east, west} {
		n, err := c.Node()
		if err != nil {
			return nil, err
		}
		if err := n.Masquerade(ctx); err != nil {
			return nil, err
		}
		p, err := n.StartProxy(ctx, rig.ProxyOptions{})
		if err != nil {
			return nil, err
		}
		proxies = append(proxies, p)
	}
	s.near, s.beside, s.far = east.Nodes[0], east.Nodes[1], west.Nodes[0]
	pod, err := s.near.EnrolledPod(ctx, "client")
	if err != nil {
		return nil, err
	}
	if s.client, err = startApp(r, pod); err != nil {
		return nil, err
	}
	serve := func(n *rig.Node, service string, labels map[string]string) (netip.Addr, error) {
		pod, err := n.EnrolledPod(ctx, service)
		if err != nil {
			return netip.Addr{}, err
		}
		if s.server, err = startApp(r, pod); err != nil {
			return netip.Addr{}, err
		}
		if _, err = s.server.do(ctx, appOrder{Do: "serve"}); err != nil {
			return netip.Addr{}, err
		}
		return n.Cluster.Service(service, labels, portNumbers(portEcho, portSink, portByte, portPour), pod), nil
	}
	at, err := serve(s.beside, "local", nil)
	if err != nil {
		return nil, err
	}
	s.local = at.String()
	global := map[string]string{"istio.io/global": "true"}
	if _, err := serve(s.far, "remote", global); err != nil {
		return nil, err
	}
	s.remote = east.Service("remote", global, portNumbers(portEcho, portSink, portByte, portPour)).String()
	gate, err := s.far.StartGateway(ctx, "eastwest")
	if err != nil {
		return nil, err
	}
	r.Publish()
	for _, p := range proxies {
		if err := p.Ready(ctx); err != nil {
			return nil, err
		}
	}
	s.path = []*rig.Process{proxies[0].Process, gate.Process, proxies[2].Process}
	if err := gate.Ready(ctx); err != nil {
		return nil, err
	}
	observe(ctx, &s.profiles, []*rig.Space{proxies[0].Space, gate.Pod.Space, proxies[2].Space})
	return s, nil
}

// closeWith takes the stage down, and tells if that fails.
func (s *ewPair) closeWith(err *error) {
	s.profiles.Wait()
	*err = errors.Join(*err, s.rig.Close())
}

// relayed starts the control of a bulk transfer: a client that is not in the mesh, its address to dial, and the relays behind that, near, middle and far.
func (s *ewPair) relayed(ctx context.Context) (client *nodeApp, to string, path []*rig.Process, err error) {
	place := func(n *rig.Node, name string) (*rig.Pod, *nodeApp) {
		if err != nil {
			return nil, nil
		}
		var pod *rig.Pod
		var app *nodeApp
		if pod, err = n.Pod(name); err == nil {
			app, err = startApp(s.rig, pod)
		}
		return pod, app
	}
	order := func(app *nodeApp, o appOrder) {
		if err == nil {
			_, err = app.do(ctx, o)
		}
	}
	// A relay and the application next to it share a pod, as an application and the proxy's sockets do.
	nearPod, client := place(s.near, "plain-client")
	middlePod, middle := place(s.far, "plain-gateway")
	farPod, server := place(s.far, "plain-server")
	if err != nil {
		return nil, "", nil, err
	}
	door, err := s.rig.OnFabric(middlePod.Space, "fabric")
	if err != nil {
		return nil, "", nil, err
	}
	near, err := startApp(s.rig, nearPod)
	if err != nil {
		return nil, "", nil, err
	}
	far, err := startApp(s.rig, farPod)
	if err != nil {
		return nil, "", nil, err
	}
	const listen, front = "9101", "127.0.0.1:9001"
	order(server, appOrder{Do: "serve"})
	order(far, appOrder{Do: "relay-tls", Authority: s.rig.Authority(), Serving: true, Listen: "0.0.0.0:" + listen, To: net.JoinHostPort("127.0.0.1", portSink)})
	order(middle, appOrder{
		Do: "relay-tls", Authority: s.rig.Authority(), Serving: true, Listen: "0.0.0.0:" + listen, To: net.JoinHostPort(farPod.Address.String(), listen),
	})
	order(near, appOrder{Do: "relay-tls-in-tls", Authority: s.rig.Authority(), Listen: front, To: net.JoinHostPort(door.String(), listen)})
	return client, front, []*rig.Process{near.Process, middle.Process, far.Process}, err
}

// appRelayDouble is the near end of a control: it takes connections to Listen on to To, in TLS in TLS, which is the product's.
func appRelayDouble(o appOrder) (appFound, error) {
	signer, err := ca.NewSigner(o.Authority)
	if err != nil {
		return appFound{}, err
	}
	source := mtls.NewSource(signed{signer}, mtls.SourceOptions{}) // it lives as long as the process
	config := source.Client(clientIdentity, []mesh.Identity{serverIdentity})
	return appFound{}, listenAll(net.ListenConfig{}, o.Listen, func(c *net.TCPConn) {
		dialled, err := new(net.Dialer).DialContext(context.Background(), "tcp4", o.To)
		if err != nil {
			return // its client sees the end
		}
		defer dialled.Close()
		copyBoth(c, tls.Client(tls.Client(dialled, config), config)) // the first read or write does the handshakes
	})
}
