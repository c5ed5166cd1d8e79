// SPDX-License-Identifier: Apache-2.0

// Package nodeproxy is the data plane of one node: it carries the mesh traffic of all enrolled pods of the node, from inside each
// pod's network namespace, while it runs in its own.
//
// The agent hands over one namespace per pod (pods.go); each gets listeners for outbound, plaintext inbound, HBONE and DNS.
// Decisions are pure and apart from the sockets: plan.go says where an outbound connection goes, package authz whether an inbound one
// may. Everything that a decision needs comes from one immutable directory.View.
//
// Order and failure: an application's connection is accepted before its destination is connected, so a failure shows as a reset of
// that connection. No byte of an application is sent before the last hop said that it is connected; until then another endpoint may
// be tried, afterwards never. When the control plane is away, the last view goes on serving, also
// across a restart of the process (package keeper).
//
// Succession: the proxies of a node share the sockets that are listened on (entrance_linux.go, succession_linux.go), so that which of them takes a connection is theirs to
// decide, and not the kernel's. The eldest takes always, whatever it lacks: there is nobody who would do better. Another one takes when it is ready. Ready is who knows the
// mesh and all pods, and has for each of their identities a certificate or the issuer's refusal; that the issuer is away is neither. Who ends takes no more, and
// finishes what it has taken.
package nodeproxy
