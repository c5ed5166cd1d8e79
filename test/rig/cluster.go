// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// mostNodes is bounded by the third byte of the pods' addresses, and by the fabric's.
const mostNodes = 100

// Cluster is one cluster.
type Cluster struct {
	Name string
	// Network is that of its pods, but for those on nodes of NodeIn.
	Network string
	Nodes   []*Node

	rig      *Rig
	plane    *plane
	services byte
}

// Cluster adds a cluster with a control plane that knows the whole world, on a network of its own, which has its name. Services with the label istio.io/global are global.
func (r *Rig) Cluster(name string) *Cluster { return r.ClusterIn(name, name) }

// ClusterIn is Cluster on a network that others may be on as well: their nodes have routes to each other's pods.
func (r *Rig) ClusterIn(name, network string) *Cluster {
	c := &Cluster{Name: name, Network: network, rig: r}
	c.plane = newPlane(r, world.Config{LocalCluster: world.Cluster(name), TrustDomain: TrustDomain, ClusterDomain: clusterDomain, SystemNamespace: SystemNamespace})
	r.clusters = append(r.clusters, c)
	r.Put(
		&world.Namespace{Key: c.key("", SystemNamespace), Labels: map[string]string{world.LabelNetwork: network}},
		&world.ServiceScope{Key: c.key("", "default"), Entries: []world.ScopeEntry{{
			Scope: "GLOBAL", Services: &world.Selector{MatchLabels: map[string]string{world.LabelGlobal: "true"}},
		}}},
	)
	return c
}

func (c *Cluster) key(namespace, name string) world.Key {
	return world.Key{Cluster: world.Cluster(c.Name), Namespace: namespace, Name: name}
}

// publish tells the control plane's subscribers.
func (c *Cluster) publish() { c.plane.publish(c.rig.state) }

// Node is a machine of a cluster.
type Node struct {
	Name    string
	Cluster *Cluster
	Network string // of its pods
	// Space is the node's own namespace, where its pods' links end.
	Space *Space
	// Address is the node's on the fabric.
	Address netip.Addr

	pods    netip.Prefix
	last    netip.Addr // of the addresses given to pods
	agent   *agent
	proxies int
}

// Node adds a node, with an agent, and routes to and from all others of the cluster's network.
func (c *Cluster) Node() (*Node, error) { return c.NodeIn(c.Network) }

// NodeIn is Node on another network than most of the cluster.
func (c *Cluster) NodeIn(network string) (*Node, error) {
	number, neighbours := c.place(network)
	if number == mostNodes {
		return nil, fmt.Errorf("cluster %s has no addresses for more than %d nodes", c.Name, mostNodes)
	}
	n := &Node{
		Name: fmt.Sprintf("%s-%d", c.Name, number), Cluster: c, Network: network, pods: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 77, byte(number), 0}), 24),
	}
	n.last = n.gateway()
	var err error
	if n.Space, err = c.rig.NewSpace(); err != nil {
		return nil, err
	}
	if err := n.Space.addBridge(netip.PrefixFrom(n.gateway(), n.pods.Bits())); err != nil {
		return nil, err
	}
	if err := n.Space.set("ipv4/ip_forward", "1"); err != nil {
		return nil, err
	}
	if n.Address, err = c.rig.OnFabric(n.Space, "fabric"); err != nil {
		return nil, err
	}
	for _, other := range neighbours {
		if err := n.Space.route(other.pods, other.Address); err != nil {
			return nil, err
		}
		if err := other.Space.route(n.pods, n.Address); err != nil {
			return nil, err
		}
	}
	if n.agent, err = newAgent(n); err != nil {
		return nil, err
	}
	c.Nodes = append(c.Nodes, n)
	c.rig.Put(&world.Node{Key: c.key("", n.Name)})
	return n, nil
}

// place finds a number for a node whose addresses no other one of its cluster or of its network has, and those on its network.
func (c *Cluster) place(network string) (number int, neighbours []*Node) {
	var taken [mostNodes]bool
	for _, other := range c.rig.clusters {
		for _, n := range other.Nodes {
			if n.Network == network {
				neighbours = append(neighbours, n)
			}
			if n.Network == network || other == c {
				taken[n.pods.Addr().As4()[2]] = true
			}
		}
	}
	if number = slices.Index(taken[:], false); number < 0 {
		number = mostNodes
	}
	return number, neighbours
}

// gateway is the node's address among its pods.
func (n *Node) gateway() netip.Addr { return n.pods.Addr().Next() }

// Service adds a service of TCP ports, each at the same port of its pods, and gives its address. All pods must be of this cluster and one namespace.
func (c *Cluster) Service(name string, labels map[string]string, ports []uint16, pods ...*Pod) netip.Addr {
	c.services++
	at := netip.AddrFrom4([4]byte{10, 96, 0, c.services})
	c.ServiceAt(name, at, labels, ports)
	c.Endpoints(name, ports, pods...)
	return at
}

// ServiceAt adds a service, or changes it, but not its pods.
func (c *Cluster) ServiceAt(name string, at netip.Addr, labels map[string]string, ports []uint16) {
	service := &world.Service{Key: c.key(Namespace, name), Labels: labels, Addresses: []netip.Addr{at}}
	for _, port := range ports {
		service.Ports = append(service.Ports, world.ServicePort{Name: portName(port), Port: port, Target: port, App: mesh.AppTCP})
	}
	c.rig.Put(service)
}

// Endpoints says which pods a service has.
func (c *Cluster) Endpoints(name string, ports []uint16, pods ...*Pod) {
	slice := &world.EndpointSlice{Key: c.key(Namespace, name+"-1"), Service: name}
	for _, port := range ports {
		slice.Ports = append(slice.Ports, world.EndpointPort{Name: portName(port), Port: port})
	}
	for _, p := range pods {
		slice.Endpoints = append(slice.Endpoints, world.Endpoint{Pod: p.Name, Addresses: slices.Clone(p.object.Addresses), Node: p.Node.Name, Ready: true})
	}
	c.rig.Put(slice)
}

func portName(port uint16) string { return fmt.Sprintf("tcp-%d", port) }
