// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net"

	"github.com/isthmus-mesh/isthmus/test/rig"
)

// ewChain is the control of what another cluster adds: TCP relays, which do nothing but copy, in the places of the proxies and the gateway, and a client and servers that are not in the mesh.
//
//	local    client ─ relay ── relay ─ server, on another node of the same cluster
//	remote   client ─ relay ── relay ── relay ─ server, in another cluster
type ewChain struct {
	client        *nodeApp
	local, remote string // addresses for the client, without ports
}

// chain starts relays to a port of servers. Each of them is a process of its own.
func (s *ewPair) chain(ctx context.Context, port string) (*ewChain, error) {
	const listen = "9101"
	at := func(host string) string { return net.JoinHostPort(host, port) }
	// relay starts one in a pod.
	relay := func(pod *rig.Pod, from, to string) error {
		app, err := startApp(s.rig, pod)
		if err == nil {
			_, err = app.do(ctx, appOrder{Do: "relay", Listen: from, To: to})
		}
		return err
	}
	// serve starts a server, and the relay in front of it.
	serve := func(n *rig.Node) (string, error) {
		pod, err := n.Pod("chained-server")
		if err != nil {
			return "", err
		}
		app, err := startApp(s.rig, pod)
		if err != nil {
			return "", err
		}
		if _, err := app.do(ctx, appOrder{Do: "serve"}); err != nil {
			return "", err
		}
		return net.JoinHostPort(pod.Address.String(), listen), relay(pod, "0.0.0.0:"+listen, at("127.0.0.1"))
	}
	pod, err := s.near.Pod("chained-client")
	if err != nil {
		return nil, err
	}
	c := &ewChain{local: "127.0.0.2", remote: "127.0.0.3"}
	if c.client, err = startApp(s.rig, pod); err != nil {
		return nil, err
	}
	local, err := serve(s.beside)
	if err != nil {
		return nil, err
	}
	remote, err := serve(s.far)
	if err != nil {
		return nil, err
	}
	middle, err := s.far.Pod("chained-gateway")
	if err != nil {
		return nil, err
	}
	door, err := s.rig.OnFabric(middle.Space, "fabric")
	if err != nil {
		return nil, err
	}
	if err := relay(middle, "0.0.0.0:"+listen, remote); err != nil {
		return nil, err
	}
	if err := relay(pod, at(c.remote), net.JoinHostPort(door.String(), listen)); err != nil {
		return nil, err
	}
	return c, relay(pod, at(c.local), local)
}
