// SPDX-License-Identifier: Apache-2.0

// Package lab runs real Kubernetes clusters on one Linux machine, without a container engine, a registry or a
// virtual machine: kube-apiserver, kubelet, containerd, runc, kube-proxy and CoreDNS in network and mount
// namespaces, joined by a WAN on which only node and load-balancer addresses exist. Every cluster has the same
// pod and service ranges, on purpose.
//
// # Using a lab from a test
//
// A lab is made and removed by cmd/lab (or Up and Down). A test opens one that is up:
//
//	l, err := lab.Open("lab")
//	for _, c := range l.Clusters() {
//		config, err := c.RESTConfig() // works from the host's own namespace
//	}
//	conn, err := l.Dial(ctx, "tcp", "10.89.102.1:80") // a LoadBalancer address, dialled from the WAN's client
//	err = l.Load(ctx, lab.Image{Ref: "isthmus.dev/app:dev", Binaries: []string{"bin/app"}})
//	err = l.InNamespace(l.WANNamespace(), func() error { … open a packet socket … })
//	node := l.Clusters()[0].Nodes()[0]
//	err = node.Kill()       // SIGKILL: the node and all its pods are gone at once
//	err = node.Start(ctx)   // the same node again, with its disk
//
// # Addresses
//
// Cluster number N has its machines in 10.89.N.0/24 (router .1, control plane .10, nodes from .11) and its
// LoadBalancer pool in 10.89.(100+N).0/24; pods are 10.244.0.0/16 (node i: 10.244.i.0/24) and services
// 10.96.0.0/16 in all of them. The client, where tests dial from, is 10.89.0.2. What a pod sends out of its cluster
// carries its node's address. Nothing is added to the host's own network namespace.
//
// # What it promises
//
// Everything that is created carries the lab's name: network namespaces isthmus-NAME-…, cgroups isthmus-lab/NAME/…,
// and one state directory. Down finds and removes all of it from the name alone, whatever happened before.
// Processes are recorded with their start time, so that a reused process id is never killed.
// Up and Down of one lab exclude each other by a lock; different labs do not touch each other.
// Methods of Lab, Cluster and Node may be called from several goroutines.
//
// The package knows nothing of the product and imports nothing of it.
package lab
