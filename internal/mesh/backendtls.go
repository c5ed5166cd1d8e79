// SPDX-License-Identifier: Apache-2.0

package mesh

import (
	"cmp"
	"slices"
	"strings"
)

// BackendTLS says how a gateway speaks TLS to the endpoints of one port of a service, and by what it takes them for what they are.
type BackendTLS struct {
	Service ServiceKey
	Port    uint16
	// Problem, if not empty, says why no connection may be made; the rest is empty then.
	Problem string
	// ServerName is what the endpoint is asked for, and what its certificate must be for unless there are SANs.
	ServerName string
	// CAs are those that may have signed the endpoint's certificate, PEM; System adds the ones that the gateway's system trusts.
	CAs    string
	System bool
	// SANs are the names of which the endpoint's certificate must have one.
	SANs []SubjectAltName
}

// SubjectAltName is a URI, or a lower-case hostname that may have a wildcard in front.
type SubjectAltName struct {
	URI   bool
	Value string
}

// Equal says whether connections by one may be used for the other, if they are for the same port.
func (b *BackendTLS) Equal(o *BackendTLS) bool {
	return b.Service == o.Service && b.Port == o.Port && b.Problem == o.Problem && b.ServerName == o.ServerName && b.CAs == o.CAs &&
		b.System == o.System && slices.Equal(b.SANs, o.SANs)
}

// CompareBackendTLS orders by service and port.
func CompareBackendTLS(a, b BackendTLS) int {
	return cmp.Or(strings.Compare(a.Service.Namespace, b.Service.Namespace), strings.Compare(a.Service.Hostname, b.Service.Hostname), cmp.Compare(a.Port, b.Port))
}

// ClientValidation says by what a listener's clients prove themselves.
type ClientValidation struct {
	// CAs are those that may have signed a client's certificate, PEM.
	CAs string
	// Insecure says that a client without a certificate, or with one of somebody else, is let in, too.
	Insecure bool
}
