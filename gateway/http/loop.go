// SPDX-License-Identifier: Apache-2.0

package http

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
)

// headerVia lists the gateways that a request went through. It is not the Via of RFC 9110, 7.6.3, because of which servers that are in wide use answer otherwise than they would without a gateway: nginx
// does not compress then (gzip_proxied).
const headerVia = "Isthmus-Via"

// maxTurns is how often a request may come through one gateway; a loop is cut after as many. Who passes requests on with their headers, as proxies do, makes a chain of them that may use a gateway for each of its links without going
// in circles, and gateways of clusters that are made alike have the same name.
const maxTurns = 16

// viaOf is what a gateway of a name calls itself in headerVia: nobody learns the name by it. Without a name it is one that nobody else has.
func viaOf(name string) []string {
	if name == "" {
		name = rand.Text()
	}
	sum := sha256.Sum256([]byte(name))
	return []string{hex.EncodeToString(sum[:4])}
}

// loops says whether a request came through this gateway as often as one may.
func (s *Server) loops(r *http.Request) bool {
	turns := 0
	for _, v := range r.Header[headerVia] {
		turns += strings.Count(v, s.via[0])
	}
	return turns >= maxTurns
}

// sign adds this gateway to those that a request went through, whatever was made of its header since it came.
func (s *Server) sign(out, came *http.Request) {
	if before := came.Header[headerVia]; before == nil {
		out.Header[headerVia] = s.via
	} else {
		out.Header[headerVia] = append(slices.Clip(before), s.via[0])
	}
}
