// SPDX-License-Identifier: Apache-2.0

// Package agent puts the pods of one node into the mesh and takes them out again: it decides which pods belong to it, captures their
// traffic inside their own network namespaces (package redirect), and hands those namespaces to the node's proxy (internal/zds).
//
// It is a process of its own, so that it goes on while the proxy is replaced and the other way round. Neither owns the other's work:
// rules stay in the pods when the agent stops, and the proxy serves the pods it has when the agent is away.
//
// There are two ways in. A pod that starts is announced by the CNI plugin (package cni) before its containers run, and does not start
// until it is captured and the proxy serves it. A pod that already runs is taken in, or let go, when labels say so. Work on one pod
// happens one step at a time; pods do not wait for each other.
//
// Once captured, a pod stays it: the kernel tells of changes in its namespace, and what somebody damaged is put right, with an event.
//
// What it needs: root with NET_ADMIN, SYS_ADMIN and SYS_PTRACE, the node's network and process namespaces (hostNetwork, hostPID), the
// node's /opt/cni/bin, /etc/cni/net.d, /var/run/isthmus and /run/netns (mount propagation HostToContainer), and of the API server:
// get, list and watch on pods and namespaces, patch on pods/status, create and patch on events.
package agent
