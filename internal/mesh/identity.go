// SPDX-License-Identifier: Apache-2.0

package mesh

import (
	"fmt"
	"strings"
)

// Identity names a workload by its SPIFFE id, spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>.
// It is comparable and may be used as a map key. The zero Identity stands for "nobody proved anything" (plaintext).
type Identity struct {
	TrustDomain    string
	Namespace      string
	ServiceAccount string
}

const spiffeScheme = "spiffe://"

// maxIdentityLength is the longest SPIFFE id that is believed, in bytes (SPIFFE-ID specification, section 2.3).
const maxIdentityLength = 2048

// String gives the SPIFFE id, or "" for the zero Identity.
func (i Identity) String() string {
	if i.IsZero() {
		return ""
	}
	return spiffeScheme + i.Principal()
}

// Principal gives the id without its scheme, the form in which authorization policies name principals.
func (i Identity) Principal() string {
	if i.IsZero() {
		return ""
	}
	return i.TrustDomain + "/ns/" + i.Namespace + "/sa/" + i.ServiceAccount
}

// IsZero says whether this is the zero Identity.
func (i Identity) IsZero() bool { return i == Identity{} }

// ParseIdentity reads a SPIFFE id of exactly the form of Identity. Anything else is an error: other schemes, an empty part,
// more or fewer path segments, queries, fragments, ports, user info, or characters outside those that SPIFFE allows.
func ParseIdentity(s string) (Identity, error) {
	if len(s) > maxIdentityLength {
		return Identity{}, fmt.Errorf("SPIFFE id of %d bytes is longer than %d", len(s), maxIdentityLength)
	}
	rest, ok := strings.CutPrefix(s, spiffeScheme)
	if !ok {
		return Identity{}, fmt.Errorf("identity %q does not begin with %s", s, spiffeScheme)
	}
	parts := strings.Split(rest, "/")
	if len(parts) != 5 || parts[1] != "ns" || parts[3] != "sa" {
		return Identity{}, fmt.Errorf("identity %q is not of the form spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>", s)
	}
	for _, part := range []string{parts[0], parts[2], parts[4]} {
		if part == "" || part == "." || part == ".." {
			return Identity{}, fmt.Errorf("identity %q has an empty or relative part", s)
		}
		for _, c := range []byte(part) {
			if !allowedInIdentity(c) {
				return Identity{}, fmt.Errorf("identity %q holds the character %q, which SPIFFE does not allow", s, c)
			}
		}
	}
	if strings.ToLower(parts[0]) != parts[0] {
		return Identity{}, fmt.Errorf("identity %q has a trust domain in upper case", s)
	}
	return Identity{TrustDomain: parts[0], Namespace: parts[2], ServiceAccount: parts[4]}, nil
}

func allowedInIdentity(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_'
}
