// SPDX-License-Identifier: Apache-2.0

package dns

import "github.com/miekg/dns"

// Reason is why a query was refused: the word in logs and metrics.
type Reason string

const (
	// ReasonMalformed: the query cannot be read, or asks not exactly one question. The client is told FORMERR.
	ReasonMalformed Reason = "MALFORMED"
	// ReasonVersion: the query is of an EDNS version that we do not know. The client is told BADVERS.
	ReasonVersion Reason = "EDNS_VERSION"
	// ReasonTransfer: zone transfers are answered by many messages, which are not passed on. The client is told REFUSED.
	ReasonTransfer Reason = "ZONE_TRANSFER"
	// ReasonPodBusy and ReasonNodeBusy: too many queries of the pod, or of all pods, wait for servers upstream. The client is told
	// SERVFAIL, here and below.
	ReasonPodBusy  Reason = "POD_LIMIT"
	ReasonNodeBusy Reason = "NODE_LIMIT"
	// ReasonNoServer: it is not known whom the pod had asked, and the proxy has no server of its own.
	ReasonNoServer Reason = "NO_SERVER"
	// ReasonTimeout: no server answered in time.
	ReasonTimeout Reason = "UPSTREAM_TIMEOUT"
	// ReasonUpstream: no server could be asked, or the answer was none.
	ReasonUpstream Reason = "UPSTREAM_FAILURE"
	// ReasonConnections: the pod has too many TCP connections open. The new one is closed.
	ReasonConnections Reason = "CONNECTION_LIMIT"
)

// rcode is what the client is told.
func (r Reason) rcode() int {
	switch r {
	case ReasonMalformed:
		return dns.RcodeFormatError
	case ReasonVersion:
		return dns.RcodeBadVers
	case ReasonTransfer:
		return dns.RcodeRefused
	}
	return dns.RcodeServerFailure
}

// detail is what clients that know of extended errors are told besides (RFC 8914, section 4).
func (r Reason) detail() *dns.EDNS0_EDE {
	code := dns.ExtendedErrorCodeOther
	switch r {
	case ReasonTransfer:
		code = dns.ExtendedErrorCodeNotSupported
	case ReasonPodBusy, ReasonNodeBusy:
		code = dns.ExtendedErrorCodeNotReady
	case ReasonTimeout:
		code = dns.ExtendedErrorCodeNoReachableAuthority
	case ReasonUpstream, ReasonNoServer:
		code = dns.ExtendedErrorCodeNetworkError
	}
	return &dns.EDNS0_EDE{InfoCode: code, ExtraText: string(r)}
}
