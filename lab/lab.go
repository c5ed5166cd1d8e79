// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Lab is a lab that exists.
type Lab struct {
	places   places
	record   record
	clusters []*Cluster
}

// Cluster is one Kubernetes cluster of a lab.
type Cluster struct {
	Name   string
	Number int // from 1; see the package comment for the addresses that follow from it

	places places
	site   site
	nodes  []*Node
}

// Node is one node of a cluster.
type Node struct {
	Name string // as Kubernetes knows it, for example east-n1

	cluster *Cluster
	index   int
}

// ErrNotUp is returned by Open when there is no complete lab of that name.
var ErrNotUp = errors.New("the lab is not up")

// Open finds a lab that is up.
func Open(name string) (*Lab, error) {
	p, err := placesOf(name)
	if err != nil {
		return nil, err
	}
	r, err := p.readRecord()
	if errors.Is(err, fs.ErrNotExist) || err == nil && !r.Complete {
		return nil, fmt.Errorf("lab %s: %w", name, ErrNotUp)
	}
	if err != nil {
		return nil, err
	}
	return newLab(p, r), nil
}

func newLab(p places, r record) *Lab {
	l := &Lab{places: p, record: r}
	for n := 1; n <= r.Shape.Clusters; n++ {
		c := &Cluster{Name: clusterName(n), Number: n, places: p, site: site{n}}
		for i := firstNodeIndex; i <= r.Shape.Nodes; i++ {
			c.nodes = append(c.nodes, &Node{Name: nodeName(c.Name, i), cluster: c, index: i})
		}
		l.clusters = append(l.clusters, c)
	}
	return l
}

func clusterOf(p places, r record, name string) (*Cluster, error) {
	return newLab(p, r).Cluster(name)
}

// Name is the lab's name.
func (l *Lab) Name() string { return l.places.name }

// Shape is what the lab was made of.
func (l *Lab) Shape() Shape { return l.record.Shape }

// Clusters are the lab's clusters, in the order of their numbers.
func (l *Lab) Clusters() []*Cluster { return l.clusters }

// Cluster finds a cluster by its name.
func (l *Lab) Cluster(name string) (*Cluster, error) {
	var known []string
	for _, c := range l.clusters {
		if c.Name == name {
			return c, nil
		}
		known = append(known, c.Name)
	}
	return nil, fmt.Errorf("lab %s has no cluster %q, only %v", l.places.name, name, known)
}

// Node finds a node by CLUSTER/NODE, for example east/n1.
func (l *Lab) Node(path string) (*Node, error) {
	cluster, name, err := splitNode(path)
	if err != nil {
		return nil, err
	}
	c, err := l.Cluster(cluster)
	if err != nil {
		return nil, err
	}
	for _, n := range c.nodes {
		if n.Name == name {
			return n, nil
		}
	}
	return nil, fmt.Errorf("cluster %s has no node %s, only %d", cluster, name, len(c.nodes))
}

// ClientNamespace is the path of the network namespace of the WAN's client, from which all API servers and
// LoadBalancer addresses can be reached.
func (l *Lab) ClientNamespace() string { return l.places.netns("client") }

// WANNamespace is the path of the network namespace through which all packets between clusters pass,
// where a capture on any interface sees them all.
func (l *Lab) WANNamespace() string { return l.places.netns("wan") }

// InNamespace calls f on a thread of its own inside the network namespace at the given path. Sockets and processes
// that f itself starts belong to that namespace for ever; goroutines that f starts are outside it.
func (l *Lab) InNamespace(path string, f func() error) error {
	_, err := inNetns(path, func() (struct{}, error) { return struct{}{}, f() })
	return err
}

// Dial connects from the client's network namespace. The address must be a literal IPv4 address and port: the host's
// resolver knows nothing of the lab.
func (l *Lab) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return dialIn(ctx, l.ClientNamespace(), network, address)
}

// dialIn dials from inside a namespace: a socket belongs to the namespace of the thread that made it, and for a
// literal address that is the thread that calls Dial.
func dialIn(ctx context.Context, netns, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	if net.ParseIP(host) == nil {
		return nil, fmt.Errorf("dial %s: want a literal IP address", address)
	}
	return inNetns(netns, func() (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, network, address)
	})
}

// Nodes are the cluster's nodes, in order.
func (c *Cluster) Nodes() []*Node { return c.nodes }

// APIServer is the address and port of the cluster's API server, as seen from the other clusters.
func (c *Cluster) APIServer() string {
	return net.JoinHostPort(c.site.controlPlane().String(), fmt.Sprint(apiServerPort))
}

// InternalKubeconfig is a kubeconfig with full rights whose server is the API server's address on the WAN: for use
// by pods of any cluster of the lab, and by processes in the client's namespace.
func (c *Cluster) InternalKubeconfig() ([]byte, error) {
	return os.ReadFile(c.places.pki(c.Name, "admin.kubeconfig"))
}

// Kubeconfig is a kubeconfig with full rights that works in the host's own network namespace, through the lab's
// forwarder on 127.0.0.1.
func (c *Cluster) Kubeconfig() ([]byte, error) {
	r, err := c.places.readRecord()
	if err != nil {
		return nil, err
	}
	data, err := c.InternalKubeconfig()
	if err != nil {
		return nil, err
	}
	port, ok := r.Ports[c.Name]
	if !ok {
		return nil, fmt.Errorf("lab %s: %w", c.places.name, ErrNotUp)
	}
	return withServer(data, fmt.Sprintf("https://127.0.0.1:%d", port))
}

// RESTConfig is a client configuration with full rights and no rate limit. It works in the host's own network
// namespace: its connections are made in the client's.
func (c *Cluster) RESTConfig() (*rest.Config, error) {
	data, err := c.InternalKubeconfig()
	if err != nil {
		return nil, err
	}
	config, err := clientcmd.RESTConfigFromKubeConfig(data)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig of %s: %w", c.Name, err)
	}
	config.QPS = -1
	netns := c.places.netns("client")
	config.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		return dialIn(ctx, netns, network, address)
	}
	return config, nil
}

// Kill ends the node at once, with all its pods and mounts, as a power failure would. Its disk stays.
func (n *Node) Kill() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	first, err := n.process()
	if err != nil {
		return fmt.Errorf("kill node %s: %w", n.Name, err)
	}
	if err := killAll(ctx, []process{first}); err != nil {
		return fmt.Errorf("kill node %s: %w", n.Name, err)
	}
	return nil
}

// Start starts a node that was killed, with the same disk. It does not wait until Kubernetes finds it ready.
func (n *Node) Start(ctx context.Context) error {
	release, err := n.cluster.places.lock(ctx, nil)
	if err != nil {
		return err
	}
	defer release()
	if first, err := n.process(); err == nil && first.alive() {
		return nil
	}
	_, err = n.cluster.places.startMachine(n.cluster.Name, n.index)
	return err
}

// Running says whether the node's machine is there.
func (n *Node) Running() bool {
	first, err := n.process()
	return err == nil && first.alive()
}

// LogDirectory holds the output of the node's programs: init.log, containerd.log, kubelet.log, kube-proxy.log.
func (n *Node) LogDirectory() string {
	return filepath.Join(n.cluster.places.state(), n.cluster.Name, n.Name)
}

func (n *Node) process() (process, error) {
	return readProcess(n.cluster.places.processFile(n.Name))
}
