// SPDX-License-Identifier: Apache-2.0

package reach

import (
	"crypto/tls"
	"errors"
	"net"
	"reflect"
)

// accusesUs says that a peer ended TLS because of what we showed of ourselves: a server's word on its client's certificate. The peer is as well as it was.
func accusesUs(r *Refusal) bool {
	alert, ok := alertOf(r)
	if !ok {
		return false
	}
	switch alert { // RFC 8446 section 6
	case 41, 42, 43, 44, 45, 46, // no_certificate (RFC 6101), bad, unsupported, revoked, expired, unknown
		48, 49, // unknown_ca, access_denied
		116: // certificate_required
		return true
	}
	return false
}

// alertOf finds the alert by which the peer ended TLS. The type that crypto/tls has for it there is its own; it is a number, as a tls.AlertError is.
func alertOf(err error) (tls.AlertError, bool) {
	for {
		op, ok := errors.AsType[*net.OpError](err)
		if !ok {
			return 0, false
		}
		if v := reflect.ValueOf(op.Err); op.Op == "remote error" && v.Kind() == reflect.Uint8 {
			return tls.AlertError(v.Uint()), true
		}
		err = op.Err
	}
}
