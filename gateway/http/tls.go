// SPDX-License-Identifier: Apache-2.0

package http

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// errNoCertificate refuses a handshake for a name for which no listener has a certificate.
var errNoCertificate = errors.New("no listener has a certificate for this name")

// tlsConfigs makes the TLS side of listeners that share a port. A listener whose certificates cannot be used is left out, and an
// error says why; its handshakes fail. The certificates are in pairs. What clients prove is noted in checks.
func tlsConfigs(listeners []mesh.Listener, pairs *KeyPairs, checks map[*mesh.Listener]*clientCheck) (hosts[*tls.Config], error) {
	out := newHosts[*tls.Config]()
	var problems error
	for i := range listeners {
		l := &listeners[i]
		config := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
		if !endsTLS(*l) {
			out.put(l.Hostname, nil) // its connections are served elsewhere
			continue
		}
		var err error
		config.Certificates, err = pairs.Of(l)
		problems = errors.Join(problems, err)
		if l.Clients != nil {
			check, err := newClientCheck(l.Clients)
			if err != nil {
				problems = errors.Join(problems, fmt.Errorf("listener %q: %w", l.Name, err))
				config.Certificates = nil
			} else {
				check.configure(config)
				checks[l] = check
			}
		}
		if len(config.Certificates) == 0 {
			config = nil // so that no wider listener answers in its place
		}
		out.put(l.Hostname, config)
	}
	return out, problems
}

// serverName is a name of the handshake in the form of our tables.
func serverName(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }
