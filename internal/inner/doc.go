// SPDX-License-Identifier: Apache-2.0

// Package inner keeps the inner sessions of double tunnels: pooled, and still spread.
//
// An inner session ends at one pod behind another network's gateway. To make one for each connection of an application costs a TLS handshake each time; to share one
// sends everything to one pod. A Pool does neither: from a gateway that names the pod behind each session (docs/hbone.md §13) it learns which pods its sessions
// reach, opens sessions until they reach enough of those that are ready, and gives each new stream to the pod that carries the fewest of ours
// and was given the fewest lately, and among equals to the one that had to wait longest. Where the gateway names no pod, each stream gets a session of its own.
// Over a long way a pod is reached in several lanes (lanes.go), each of which is a session through an outer connection that it shares with no other lane.
//
// What a Pool promises: a stream is opened only in a session of its own key (source, gateway, service and port), whose last hop and gateway have proved identities that the
// caller expects now, with certificates that last, and of which no side has said that it ends. A session that fails one of these takes no more streams, and ends with
// its last one. Numbers of sessions, of streams in each, and of what is remembered are bounded; beyond them each stream gets a session of its own, as if nothing were pooled.
//
// Which pod comes next is pure (choose.go). All methods may be called from any goroutine. The package knows nothing of directories and certificates: how a session is
// made is handed in.
package inner
