// SPDX-License-Identifier: Apache-2.0

// Package redirect makes a pod's traffic pass its node's proxy: netfilter rules and policy routes inside the pod's network
// namespace, and on the node what lets the kubelet's probes be told from everything else, and find their way.
//
// The rules are a value first (Rules, printable and comparable) and then one netlink transaction (Apply); applying again gives the
// same result, and a pod is never seen with half of the rules. Nothing outside the pod's namespace refers to them, so they vanish
// with the pod. While no proxy listens, captured connections are refused: the pod fails closed.
//
// The package knows neither Kubernetes nor the proxy, only the ports and marks that they share.
package redirect
