// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

const (
	// MaxClusters keeps machine networks (10.89.N.0/24) and pools (10.89.(100+N).0/24) apart with room to spare.
	MaxClusters = 16
	// MaxNodes is bounded by the last byte of a node's address, which starts at 11, and by sense.
	MaxNodes = 32

	podRange       = "10.244.0.0/16"
	serviceRange   = "10.96.0.0/16"
	kubernetesIP   = "10.96.0.1"  // the first address of serviceRange, as kube-apiserver chooses it
	dnsServiceIP   = "10.96.0.10" // where kubelets send pods for DNS
	clusterDomain  = "cluster.local"
	labRange       = "10.89.0.0/16" // the only addresses that the WAN carries
	clientAddress  = "10.89.0.2"
	clientGateway  = "10.89.0.1"
	apiServerPort  = 6443
	netnsPrefix    = "isthmus-"
	cgroupParent   = "isthmus-lab"
	firstNodeIndex = 1
)

// wellKnown are the names of the first clusters; later ones are called c5, c6 and so on.
var wellKnown = []string{"east", "west", "north", "south"}

// namePattern has no '-': lab "a" must not own the namespaces of a lab "a-b".
var namePattern = regexp.MustCompile(`^[a-z][a-z0-9]{0,15}$`)

// CheckName says whether name can be a lab's name.
func CheckName(name string) error {
	if !namePattern.MatchString(name) {
		return fmt.Errorf("lab name %q: want a lower-case letter followed by at most 15 lower-case letters or digits", name)
	}
	return nil
}

// clusterName is the name of cluster number n, from 1.
func clusterName(n int) string {
	if n <= len(wellKnown) {
		return wellKnown[n-1]
	}
	return "c" + strconv.Itoa(n)
}

func clusterNames(count int) []string {
	var names []string
	for n := 1; n <= count; n++ {
		names = append(names, clusterName(n))
	}
	return names
}

// WAN says how packets travel between clusters.
type WAN string

const (
	// WANKernel forwards in the kernel: several Gbit/s, no delay.
	WANKernel WAN = "kernel"
	// WANEmulated forwards in user space with delay, jitter and loss; needs no netem in the kernel.
	WANEmulated WAN = "emulated"
)

// site holds the addresses of one cluster, all derived from its number.
type site struct{ number int }

func (s site) addr(third, last int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 89, byte(third), byte(last)})
}

// machines is the network of the cluster's router, control plane and nodes.
func (s site) machines() netip.Prefix { return netip.PrefixFrom(s.addr(s.number, 0), 24) }

// pool is where LoadBalancer addresses come from.
func (s site) pool() netip.Prefix { return netip.PrefixFrom(s.addr(100+s.number, 0), 24) }

func (s site) edge() netip.Addr         { return s.addr(s.number, 1) }
func (s site) controlPlane() netip.Addr { return s.addr(s.number, 10) }

// node is the address of node i, from 1.
func (s site) node(i int) netip.Addr { return s.addr(s.number, 10+i) }

// pods is the pod range of node i, from 1.
func (s site) pods(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(i), 0}), 24)
}

// uplink is the pair of addresses of the link between the cluster's router and the WAN's.
func (s site) uplink() (edge, wan netip.Prefix) {
	return netip.PrefixFrom(s.addr(255, 4*s.number+2), 30), netip.PrefixFrom(s.addr(255, 4*s.number+1), 30)
}

// netnsName is the name of a box's network namespace below /run/netns.
func netnsName(lab, box string) string { return netnsPrefix + lab + "-" + box }

// nodeName is how node i of a cluster is called, in Kubernetes and everywhere else.
func nodeName(cluster string, i int) string { return cluster + "-n" + strconv.Itoa(i) }

// splitNode reads CLUSTER/NODE, where NODE is n1, 1 or the node's full name.
func splitNode(s string) (cluster, node string, err error) {
	cluster, node, ok := strings.Cut(s, "/")
	if !ok || cluster == "" || node == "" {
		return "", "", fmt.Errorf("node %q: want CLUSTER/NODE, for example east/n1", s)
	}
	short := strings.TrimPrefix(strings.TrimPrefix(node, cluster+"-"), "n")
	i, err := strconv.Atoi(short)
	if err != nil || i < firstNodeIndex || strconv.Itoa(i) != short {
		return "", "", fmt.Errorf("node %q: want CLUSTER/NODE, for example east/n1", s)
	}
	return cluster, nodeName(cluster, i), nil
}
