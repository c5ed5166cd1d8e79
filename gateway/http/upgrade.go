// SPDX-License-Identifier: Apache-2.0

package http

import (
	"net/http"
	"strings"
)

// withoutH2C takes the wish for HTTP/2 (RFC 7540, 3.2; RFC 9113 has dropped it) or for TLS (RFC 2817) out of a request. Were it granted by a backend, requests would
// follow that no rule has seen. Whoever does not get what it asks for is answered as if it had not asked.
func withoutH2C(h http.Header) {
	h.Del("Http2-Settings")
	for protocol := range strings.SplitSeq(strings.Join(h["Upgrade"], ","), ",") {
		name, _, _ := strings.Cut(protocol, "/")
		if name = strings.TrimSpace(name); strings.EqualFold(name, "h2c") || strings.EqualFold(name, "h2") || strings.EqualFold(name, "HTTP") || strings.EqualFold(name, "TLS") {
			h.Del("Upgrade")
			h.Del("Connection") // the proxy has left nothing in it but this
			return
		}
	}
}
