// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
	"github.com/isthmus-mesh/isthmus/internal/zds"
	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/redirect"
)

// Namespace is that of all services, and of pods whose maker says nothing else.
const Namespace = "demo"

// Pod is a pod of a node: a namespace with a link to it. What runs in it is up to its user.
type Pod struct {
	*Space
	Name    string
	Node    *Node
	Address netip.Addr

	object *world.Pod
}

// Pod adds a pod that is not part of the mesh. Its service account has its name.
func (n *Node) Pod(name string) (*Pod, error) {
	at, err := n.FreeAddress()
	if err != nil {
		return nil, err
	}
	return n.PodAt(name, name, at)
}

// PodIn is Pod in another namespace.
func (n *Node) PodIn(namespace, name string) (*Pod, error) {
	at, err := n.FreeAddress()
	if err != nil {
		return nil, err
	}
	return n.podAt(namespace, name, name, at, nil)
}

// FreeAddress gives an address that no pod has had.
func (n *Node) FreeAddress() (netip.Addr, error) {
	at := n.last.Next()
	if !n.pods.Contains(at.Next()) { // the last is for broadcasts
		return netip.Addr{}, fmt.Errorf("node %s has no address left", n.Name)
	}
	n.last = at
	return at, nil
}

// PodAt adds a pod of a service account at an address of FreeAddress, or one that a pod of this node had before it was removed.
func (n *Node) PodAt(name, account string, at netip.Addr) (*Pod, error) {
	return n.podAt(Namespace, name, account, at, nil)
}

func (n *Node) podAt(namespace, name, account string, at netip.Addr, labels map[string]string) (*Pod, error) {
	s, err := n.Cluster.rig.NewSpace()
	if err != nil {
		return nil, err
	}
	if err := s.plug(n.Space, n.Cluster.rig.port(), "eth0", netip.PrefixFrom(at, n.pods.Bits())); err != nil {
		return nil, err
	}
	if err := s.route(netip.Prefix{}, n.gateway()); err != nil {
		return nil, err
	}
	p := &Pod{Space: s, Name: name, Node: n, Address: at, object: &world.Pod{
		Key: n.Cluster.key(namespace, name), Labels: labels, Addresses: []netip.Addr{at}, Node: n.Name, ServiceAccount: account, Ready: true,
		WorkloadName: name, WorkloadKind: mesh.KindDeployment,
	}}
	if n.Network != n.Cluster.Network {
		p.object.Labels = map[string]string{world.LabelNetwork: n.Network}
	}
	n.Cluster.rig.Put(p.object)
	return p, nil
}

// Label gives the pod labels, which are its own from then on. It must come before Enrol; the control plane knows of them with the next Publish.
func (p *Pod) Label(labels map[string]string) {
	if network, ok := p.object.Labels[world.LabelNetwork]; ok {
		labels[world.LabelNetwork] = network
	}
	p.object.Labels = labels
	p.Node.Cluster.rig.Put(p.object)
}

// Capture leads the pod's traffic to the ports of a proxy, and gives it none.
func (p *Pod) Capture() error {
	if err := redirect.Apply(p.File(), p.Node.agent.capture); err != nil {
		return err
	}
	return redirect.AcceptMarks(p.File())
}

// Enrol makes the pod part of the mesh: its traffic is captured, and the node's proxy is given its namespace, or will be when there is one. The control plane
// knows of it with the next Publish.
func (p *Pod) Enrol(ctx context.Context) error {
	if err := p.Capture(); err != nil {
		return err
	}
	captured := *p.object
	captured.Captured = true
	p.object = &captured
	p.Node.Cluster.rig.Put(p.object)
	return p.Node.agent.add(ctx, zds.Workload{UID: p.Node.Cluster.Name + "-" + p.Name, Name: p.Name, Namespace: p.object.Namespace, ServiceAccount: p.object.ServiceAccount}, p)
}

// EnrolledPod adds a pod and makes it part of the mesh.
func (n *Node) EnrolledPod(ctx context.Context, name string) (*Pod, error) {
	p, err := n.Pod(name)
	if err != nil {
		return nil, err
	}
	return p, p.Enrol(ctx)
}

// Remove ends the pod: its link and its namespace go, and the node's proxy is told. What still listens or is connected in the namespace holds it, but is cut off. The control
// plane's world has it until Forget.
func (p *Pod) Remove(ctx context.Context) error {
	err := p.Node.agent.remove(ctx, p)
	cut := p.links(func(h *netlink.Handle) error {
		l, err := h.LinkByName("eth0")
		if err == nil {
			err = h.LinkDel(l)
		}
		return err
	})
	return errors.Join(err, cut, p.Node.Cluster.rig.release(p.Space))
}

// Forget takes the pod out of the control plane's world, with the next Publish.
func (p *Pod) Forget() { p.Node.Cluster.rig.Drop(p.object.Ref()) }
