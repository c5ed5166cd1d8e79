// SPDX-License-Identifier: Apache-2.0

// Package zds is the protocol by which a node's agent hands the network namespaces of pods to the node's proxy.
//
// It speaks Istio's ZDS (package istio.workload.zds, version V1) to the letter, so that either half may be replaced: our agent can
// drive ztunnel, and istio-cni can drive our proxy. Only a hello and an Add of ours say more than theirs, in fields that they skip. The agent listens on a unix SOCK_SEQPACKET socket (Server), the proxy connects
// (Run). Each packet is one protobuf message of at most MaxPacket bytes; an Add carries the pod's network namespace as one
// SCM_RIGHTS descriptor and nothing else carries any.
//
// Order: the proxy says hello, the agent sends every pod it knows, then SnapshotSent, then increments. Each message is acknowledged
// before the next one is sent on that connection. While the two are apart, nothing is torn down on either side: the proxy goes on
// with the namespaces it has, and the next connection begins with a full snapshot.
//
// The package knows neither Kubernetes nor netfilter, nor what a proxy does with a namespace.
package zds
