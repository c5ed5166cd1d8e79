// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"slices"
	"strings"
)

// Rejection is what a subscriber said of a response of which it did not take everything. What it names is a claim: the subscriber proved who it is, and
// not that the resources are bad.
type Rejection struct {
	Caller Caller
	// Type is the message's name: "Address", "Authorization" or "Gateway".
	Type string
	// Resources are those of the response that the reason names, at most maxRejected.
	Resources []RejectedResource
	// Reason is the subscriber's, at most 2 KiB of it.
	Reason string
}

// RejectedResource names what was rejected. It is one of the pairs that mesh uses as keys.
type RejectedResource struct {
	// Kind is "Workload", "Service", "Policy" or "Gateway".
	Kind string
	// Name is a workload's uid, "namespace/hostname" of a service, or "namespace/name".
	Name string
}

// maxRejected is how many resources one Rejection names.
const maxRejected = 20

// maxRejectionBytes is how much of a reason is searched for names, in bytes: some hundred faults.
const maxRejectionBytes = 64 << 10

// rejected finds the entries that a reason names. Reasons are "name: fault; name: fault" by custom of ztunnel and of our client; names hold neither
// spaces nor semicolons.
func rejected(sent []*entry, reason string) []RejectedResource {
	if len(reason) > maxRejectionBytes {
		reason = reason[:maxRejectionBytes]
	}
	words := map[string]bool{}
	for _, word := range strings.FieldsFunc(reason, func(r rune) bool { return r == ' ' || r == ';' || r == ',' || r == '\n' || r == '"' }) {
		words[strings.TrimSuffix(word, ":")] = true
	}
	var out []RejectedResource
	for _, e := range sent {
		if r := (RejectedResource{e.kind.String(), e.name}); words[e.name] && !slices.Contains(out, r) {
			if out = append(out, r); len(out) == maxRejected {
				break
			}
		}
	}
	return out
}

// String is the kind as others know it.
func (k kind) String() string {
	return [...]string{kindWorkload: "Workload", kindService: "Service", kindPolicy: "Policy", kindGateway: "Gateway", kindBundle: "Bundle"}[k]
}

// clip bounds what a peer can write into our log.
func clip(s string) string {
	const limit = 2048 // bytes
	if len(s) > limit {
		return s[:limit] + "…"
	}
	return s
}
