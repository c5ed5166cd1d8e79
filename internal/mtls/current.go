// SPDX-License-Identifier: Apache-2.0

package mtls

import "github.com/isthmus-mesh/isthmus/internal/mesh"

// Current is the certificate that a handshake for id would prove now, or nil if one would have to be fetched first. It asks for none.
func (s *Source) Current(id mesh.Identity) *Certificate {
	s.mu.Lock()
	e := s.entries[id]
	s.mu.Unlock()
	if e == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.cert
}
