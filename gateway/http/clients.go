// SPDX-License-Identifier: Apache-2.0

package http

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// clientCheck is what the clients of a listener prove, by one configuration.
type clientCheck struct {
	cas      *x509.CertPool
	insecure bool
}

// errNoClientCAs refuses a listener whose clients nobody could know.
var errNoClientCAs = errors.New("there is no CA certificate to know clients by")

func newClientCheck(c *mesh.ClientValidation) (*clientCheck, error) {
	out := &clientCheck{cas: x509.NewCertPool(), insecure: c.Insecure}
	if !out.cas.AppendCertsFromPEM([]byte(c.CAs)) {
		return nil, errNoClientCAs
	}
	return out, nil
}

// configure has handshakes ask for what is to be proved. A session that was made before is not taken up again: another listener of the port may have made it,
// or this one while other CAs were trusted.
func (c *clientCheck) configure(config *tls.Config) {
	config.SessionTicketsDisabled = true
	config.ClientCAs, config.ClientAuth = c.cas, tls.RequireAndVerifyClientCert
	if c.insecure {
		config.ClientAuth = tls.RequestClientCert
	}
}

// connection is what is known of a client's connection besides its TLS.
type connection struct {
	// proved is what its certificate was checked by last; nil: nothing.
	proved atomic.Pointer[clientCheck]
}

type connectionKey struct{}

// errUnproved refuses a request of a connection whose client has not proved what its listener wants now.
var errUnproved = errors.New("the client of the connection has not proved what the listener wants")

// admits checks a request's connection, which may have been made for another listener, or before the listener wanted what it wants now. Each connection
// is checked once by each configuration.
func (c *clientCheck) admits(r *http.Request) error {
	if c == nil || c.insecure {
		return nil
	}
	of, _ := r.Context().Value(connectionKey{}).(*connection)
	if of != nil && of.proved.Load() == c {
		return nil
	}
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return errUnproved
	}
	options := x509.VerifyOptions{Roots: c.cas, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for _, cert := range r.TLS.PeerCertificates[1:] {
		options.Intermediates.AddCert(cert)
	}
	if _, err := r.TLS.PeerCertificates[0].Verify(options); err != nil {
		return fmt.Errorf("%w: %w", errUnproved, err)
	}
	if of != nil {
		of.proved.Store(c)
	}
	return nil
}

// withConnection is the context of a connection's requests.
func withConnection(ctx context.Context) context.Context {
	return context.WithValue(ctx, connectionKey{}, &connection{})
}

// unproved are the headers by which proxies tell backends what a client has proved (RFC 9440, and what Envoy's users know): a client's own word for it is none.
var unproved = []string{"X-Forwarded-Client-Cert", "Client-Cert", "Client-Cert-Chain"}

// withoutUnproved takes them out, also those that some backends take for them, as they make no difference between an underscore and a dash.
func withoutUnproved(h http.Header) {
	for _, name := range unproved {
		delete(h, name)
	}
	for name := range h {
		if strings.IndexByte(name, '_') < 0 {
			continue
		}
		switch like := http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-")); like {
		case "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto":
			delete(h, name)
		default:
			if slices.Contains(unproved, like) {
				delete(h, name)
			}
		}
	}
}
