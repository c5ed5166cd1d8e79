// SPDX-License-Identifier: Apache-2.0

package backendtls

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// ErrHandshake means that an endpoint was there, and was not taken for what it should be, or did not agree to TLS.
var ErrHandshake = errors.New("TLS with the endpoint failed")

// Protocols of what is inside (ALPN).
const (
	HTTP1 = "http/1.1"
	HTTP2 = "h2"
)

// Settings say how TLS is spoken to the endpoints of one port of a service. A pointer to them is what connections are kept by.
type Settings struct {
	from    mesh.BackendTLS
	proof   *mesh.Certificate
	problem error
	roots   *x509.CertPool
	config  *tls.Config
	retired atomic.Bool
	failing failing
}

func newSettings(from *mesh.BackendTLS, proof *mesh.Certificate) *Settings {
	s := &Settings{from: *from, proof: proof}
	fail := func(format string, args ...any) *Settings {
		s.problem = fmt.Errorf("TLS with port %d of service %s: %w", from.Port, from.Service, fmt.Errorf(format, args...))
		return s
	}
	if from.Problem != "" {
		return fail("%s", from.Problem)
	}
	s.roots = x509.NewCertPool()
	if from.System {
		var err error
		if s.roots, err = x509.SystemCertPool(); err != nil {
			return fail("the system's CAs: %w", err)
		}
	}
	if from.CAs != "" && !s.roots.AppendCertsFromPEM([]byte(from.CAs)) {
		return fail("there is no CA certificate among those that were told")
	}
	s.config = &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: from.ServerName,
		// The library would check the name that is asked for, which counts only if there are no others: verify does all of it.
		InsecureSkipVerify: true, VerifyConnection: s.verify, //nolint:gosec // see above
	}
	if proof != nil {
		pair, err := tls.X509KeyPair([]byte(proof.Chain), []byte(proof.Key))
		if err != nil {
			return fail("the gateway's own certificate: %w", err)
		}
		// It is shown to whoever asks for one, also to those that name other CAs: the Gateway says that it is for all backends.
		s.config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	return s
}

// Problem says why no connection may be made; nil: it may.
func (s *Settings) Problem() error { return s.problem }

// Retired says that no configuration has the settings any more: what was made with them is not to be kept.
func (s *Settings) Retired() bool { return s.retired.Load() }

func (s *Settings) same(from *mesh.BackendTLS, proof *mesh.Certificate) bool {
	return s.from.Equal(from) && (s.proof == proof || s.proof != nil && proof != nil && *s.proof == *proof)
}

// Client makes a connection to an endpoint one in TLS, within a time. protocol is what will be spoken inside, empty for what needs no name; one
// that is not HTTP1 must be agreed to. It owns the connection, and closes it if it fails, which wraps ErrHandshake.
func (s *Settings) Client(ctx context.Context, conn net.Conn, protocol string, within time.Duration) (*tls.Conn, error) {
	if s.problem != nil {
		conn.Close()
		return nil, fmt.Errorf("%w: %w", ErrHandshake, s.problem)
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	config := s.config
	if protocol != "" {
		config = config.Clone()
		config.NextProtos = []string{protocol}
	}
	secure := tls.Client(conn, config)
	err := secure.HandshakeContext(ctx)
	if agreed := secure.ConnectionState().NegotiatedProtocol; err == nil && protocol == HTTP2 && agreed != HTTP2 {
		err = fmt.Errorf("the endpoint does not agree to %s", protocol)
	}
	if err != nil {
		conn.Close() // without a word in TLS, which the handshake has not come to
		return nil, fmt.Errorf("%w: %w", ErrHandshake, err)
	}
	return secure, nil
}
