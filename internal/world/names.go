// SPDX-License-Identifier: Apache-2.0

package world

import (
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Further bounds on what another cluster's object may hold; all are what Kubernetes or Gateway API validate themselves.
const (
	maxText           = maxLabelsLength // bytes of text that is read but names nothing
	maxOwners         = 256             // ownerReferences of one object
	maxSliceAddresses = 100             // addresses of one endpoint: EndpointSlice's own limit
	maxServicePorts   = maxPorts        // ports of one Service, of all protocols
	maxRouteKinds     = 8               // Gateway API's own limit of allowedRoutes.kinds
	maxInfrastructure = 16              // of TLS options; labels and annotations of infrastructure have 8
	maxOption         = 4096            // bytes of a TLS option's value
	maxVersion        = 64              // bytes of a resourceVersion: etcd's are numbers of up to 20 digits, and those of other stores are short, too
)

// ReservedV4 and ReservedV6 are the ranges of the addresses that a cluster gives to services which it does not define itself.
var (
	// ReservedV4 is of the class that RFC 1112 §4 keeps for future use, so few networks have it; ambient meshes use it for the same purpose.
	ReservedV4 = netip.MustParsePrefix("240.240.0.0/16")
	// ReservedV6 is a unique local prefix (RFC 4193); its global id spells "mesh" and the subnet is 240.
	ReservedV6 = netip.MustParsePrefix("fd6d:6573:68f0::/112")
)

// thisNetwork holds addresses that mean no other machine (RFC 1122 §3.2.1.3).
var thisNetwork = netip.MustParsePrefix("0.0.0.0/8")

// Claimable says whether an address can be another cluster's: no loopback, no link-local one (which holds clouds' metadata services), no
// multicast or broadcast, nothing that means "this network", and none of those that are given out here.
func Claimable(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsGlobalUnicast() && a.Zone() == "" && !thisNetwork.Contains(a) && !ReservedV4.Contains(a) && !ReservedV6.Contains(a)
}

// isQualifiedName says whether s can be the key of a label: a name of at most 63 characters, with or without a domain before it.
func isQualifiedName(s string) bool {
	prefix, name, has := strings.Cut(s, "/")
	if !has {
		prefix, name = "", s
	}
	return (!has || isSubdomain(prefix)) && name != "" && isLabelValue(name)
}

// isSegment says whether s can be one segment of an API path, as every name and UID is, and prints.
func isSegment(s string) bool {
	return s != "" && len(s) <= 253 && isText(s) && s != "." && s != ".." && !strings.ContainsAny(s, "/% ")
}

// isText says whether s is printable and not too long to be kept.
func isText(s string) bool {
	if s == "" || len(s) > maxText || !utf8.ValidString(s) {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

// isHostname says whether s can be a name in the public DNS: several labels, the last of which is no number (else it would be an
// address in disguise).
func isHostname(s string) bool {
	labels := strings.Split(s, ".")
	for _, l := range labels {
		if !isLabel(l) {
			return false
		}
	}
	_, err := strconv.ParseUint(labels[len(labels)-1], 0, 64)
	return len(labels) > 1 && len(s) <= 253 && err != nil
}

// maxQuoted is how much of a value a message repeats, in bytes.
const maxQuoted = 48

// quoted gives a value for a message.
func quoted(s string) string {
	if len(s) > maxQuoted {
		return strconv.QuoteToASCII(s[:maxQuoted]) + "…"
	}
	return strconv.QuoteToASCII(s)
}

// printable gives a name for a message: as it is, if it is one.
func printable(s string) string {
	if s == "" || isSubdomain(s) || len(s) <= maxText && isQualifiedName(s) {
		return s
	}
	return quoted(s)
}
