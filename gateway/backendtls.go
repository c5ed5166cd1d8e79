// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"crypto/tls"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

// secureBackends has backends from now on spoken to as a configuration has it. It comes before the routes that lead to them.
func (s *Server) secureBackends(g *mesh.Gateway) {
	next, gone, err := s.backends.Load().Next(g.BackendTLS, g.ClientCertificate)
	if err != nil {
		s.o.Log.Error(err, "backends that cannot be connected to")
	}
	s.backends.Store(next)
	s.web.SetBackends(next, gone)
}

// encrypted is a connection to an endpoint in TLS.
type encrypted struct {
	*tls.Conn
	under relay.Conn
}

// Reset ends the connection so that the endpoint sees an error: a goodbye in TLS would make a broken stream a complete one.
func (c *encrypted) Reset(code uint32) error {
	if r, ok := c.under.(interface{ Reset(code uint32) error }); ok {
		return r.Reset(code)
	}
	refuseTCP(c.under)
	return nil
}
