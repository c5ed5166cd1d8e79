// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// gatewayPort is where gateways end outer tunnels.
const gatewayPort = 15008

// Gateway is one process of the gateway, in a pod of its own with a leg on the fabric, and its Gateway object.
type Gateway struct {
	*Process
	// Pod is its pod's: metrics and readiness are on its usual ports there.
	Pod *Pod
	// Address is where other clusters reach it.
	Address netip.Addr
	// Log is the file that it writes its logs to.
	Log string

	namespace, name string // of its Gateway
}

// StartGateway adds an east-west Gateway to the node's cluster, and its process on the node. It does not wait for anything; other clusters know of it with the next
// Publish.
func (n *Node) StartGateway(ctx context.Context, name string) (*Gateway, error) {
	g, err := n.gatewayPod(SystemNamespace, name, name)
	if err != nil {
		return nil, err
	}
	if g.Address, err = n.Cluster.rig.OnFabric(g.Pod.Space, "fabric"); err != nil {
		return nil, err
	}
	n.putGateway(name, g.Address)
	return g, g.Restart(ctx)
}

// gatewayPod makes a pod for a process of the Gateway of a name.
func (n *Node) gatewayPod(namespace, name, pod string) (g *Gateway, err error) {
	g = &Gateway{namespace: namespace, name: name, Log: filepath.Join(n.Cluster.rig.Dir, n.Cluster.Name+"-"+pod+".log")}
	at, err := n.FreeAddress()
	if err != nil {
		return nil, err
	}
	if g.Pod, err = n.podAt(namespace, pod, name, at, map[string]string{translate.LabelGatewayName: translate.ResourceName(name)}); err != nil {
		return nil, err
	}
	_, err = n.Cluster.plane.serve(g.Pod.Space)
	return g, err
}

// StartWaypoint adds a waypoint to the node's cluster, for services of all namespaces, and its process on the node. It does not wait for anything; node proxies know of
// it with the next Publish.
func (n *Node) StartWaypoint(ctx context.Context, name string) (*Gateway, error) {
	return n.StartWaypointIn(ctx, SystemNamespace, name)
}

// StartWaypointIn is StartWaypoint with a Gateway of another namespace.
func (n *Node) StartWaypointIn(ctx context.Context, namespace, name string) (*Gateway, error) {
	g, err := n.gatewayPod(namespace, name, name)
	if err != nil {
		return nil, err
	}
	// Gateways of other clusters are reached from here, too.
	if g.Address, err = n.Cluster.rig.OnFabric(g.Pod.Space, "fabric"); err != nil {
		return nil, err
	}
	n.Cluster.putWaypoint(namespace, name, g.Pod)
	return g, g.Restart(ctx)
}

// putWaypoint adds a waypoint, and the Service that leads to its pod.
func (c *Cluster) putWaypoint(namespace, name string, pod *Pod) {
	own := *pod.object
	own.Captured, own.Labels = true, map[string]string{translate.LabelGatewayName: name}
	c.services++
	at := netip.AddrFrom4([4]byte{10, 96, 0, c.services})
	c.rig.Put(
		&own,
		&world.GatewayClass{Key: c.key("", translate.ClassWaypoint), Controller: translate.ControllerName},
		&world.Gateway{
			Key: c.key(namespace, name), Class: translate.ClassWaypoint, Network: c.Name, ServiceAccount: name, Created: 1,
			Listeners: []world.Listener{{Name: "mesh", Port: gatewayPort, Protocol: "HBONE", RoutesFrom: "All"}},
			Status:    []world.GatewayAddress{{Type: "IPAddress", Value: at.String()}},
		},
		&world.Service{
			Key: c.key(namespace, name), Labels: own.Labels, Addresses: []netip.Addr{at},
			Ports: []world.ServicePort{{Name: "mesh", Port: gatewayPort, Target: gatewayPort}},
		},
		&world.EndpointSlice{
			Key: c.key(namespace, name+"-1"), Service: name, Ports: []world.EndpointPort{{Name: "mesh", Port: gatewayPort}},
			Endpoints: []world.Endpoint{{Pod: own.Name, Addresses: own.Addresses, Node: own.Node, Ready: true}},
		},
	)
}

// putGateway adds an east-west Gateway of the node's network at an address.
func (n *Node) putGateway(name string, at netip.Addr) {
	const class = "eastwest"
	c := n.Cluster
	c.rig.Put(
		&world.GatewayClass{Key: c.key("", class), Controller: translate.ControllerName},
		&world.Gateway{
			Key: c.key(SystemNamespace, name), Class: class, Network: n.Network, ServiceAccount: name, Created: 1,
			Listeners: []world.Listener{{
				Name: "mesh", Port: gatewayPort, Protocol: "HBONE", HasTLS: true, TLSMode: "Terminate",
				TLSOptions: map[string]string{"gateway.istio.io/tls-terminate-mode": "ISTIO_MUTUAL"},
			}},
			Status: []world.GatewayAddress{{Type: "IPAddress", Value: at.String()}},
		},
	)
}

// Restart starts a process in the gateway's pod, in place of one that has ended. It does not wait for anything.
func (g *Gateway) Restart(ctx context.Context, flags ...string) error {
	n := g.Pod.Node
	c, r := n.Cluster, n.Cluster.rig
	program, err := r.Program(ctx, "gateway")
	if err != nil {
		return err
	}
	token := filepath.Join(r.Dir, c.Name+"-"+g.namespace+"-"+g.name+"-token")
	if err := os.WriteFile(token, []byte(g.namespace+"/"+g.name+"\n"), 0o600); err != nil {
		return err
	}
	log, err := os.OpenFile(g.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.CommandContext(r.alive, program, append([]string{
		"--gateway=" + g.namespace + "/" + g.name, "--controller=" + Controller, "--cluster-id=" + c.Name, "--network=" + n.Network,
		"--root-cert=" + r.rootFile(), "--token=" + token, "--settle=100ms",
	}, flags...)...)
	cmd.Env = append(os.Environ(), "POD_NAME="+g.Pod.Name, "INSTANCE_IP="+g.Pod.Address.String(), "NODE_NAME="+n.Name)
	cmd.Stdout, cmd.Stderr = log, log
	g.Process, err = r.Start(g.Pod.Space, cmd)
	return err
}

// Ready waits until the gateway serves.
func (g *Gateway) Ready(ctx context.Context) error {
	for {
		_, err := g.Pod.Get(ctx, readyURL)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("gateway is not ready: %w", err)
		case <-g.Ended():
			return fmt.Errorf("gateway ended: %w; see %s", errors.Join(g.Wait(), err), g.Log)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Masquerade has what the node's pods send to the fabric come from the node's own address: their own ones mean nothing to other clusters.
func (n *Node) Masquerade(ctx context.Context) error {
	rules := "add table ip rig; add chain ip rig out { type nat hook postrouting priority 100 ; }; add rule ip rig out ip saddr " + n.pods.String() +
		" ip daddr != 10.77.0.0/16 oifname fabric masquerade"
	return n.Space.Filter(ctx, rules)
}

// Stop tells the gateway to end, as the kubelet does. It drains, and Ended says when it is done.
func (g *Gateway) Stop() error { return g.Signal(syscall.SIGTERM) }
