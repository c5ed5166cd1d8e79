// SPDX-License-Identifier: Apache-2.0

package world

// BackendTLSPolicy is a Gateway API BackendTLSPolicy of our own cluster, whose API server checked it.
type BackendTLSPolicy struct {
	Key
	Generation int64
	Created    int64 // Unix seconds
	// Targets are the Services that it names; other kinds are left out.
	Targets  []NamedPort
	Hostname string // lower case
	// CAs are in the policy's own namespace; WellKnown is wellKnownCACertificates.
	CAs       []SecretRef
	WellKnown string
	SANs      []SubjectAltName
	// Option is the first of spec.options by name, none of which is known; empty: there are none.
	Option string
}

// Ref names the policy.
func (p *BackendTLSPolicy) Ref() ObjectRef { return ObjectRef{KindBackendTLSPolicy, p.Key} }

// NamedPort is a Service in the same namespace, or one port of it by its name.
type NamedPort struct{ Service, Port string }

// SubjectAltName is a URI, or a hostname in lower case.
type SubjectAltName struct {
	URI   bool
	Value string
}

// Anchors are the CA certificates in a ConfigMap that is referred to, and that may be read for it.
type Anchors struct {
	Key
	// Absent says that it was looked for, and there is none; the rest is empty then. Without an entry nobody has looked yet.
	Absent       bool
	Certificates string // PEM
	// Problem, if not empty, says why there are none.
	Problem string
}

// Ref names the ConfigMap.
func (a *Anchors) Ref() ObjectRef { return ObjectRef{KindAnchors, a.Key} }

// NewAbsent is the entry of a Secret or ConfigMap that was looked for, and is not there.
func NewAbsent(ref ObjectRef) Object {
	if ref.Kind == KindSecret {
		return &Secret{Key: ref.Key, Absent: true}
	}
	return &Anchors{Key: ref.Key, Absent: true}
}

// ClientValidation says by which CAs the clients of listeners for HTTPS prove themselves.
type ClientValidation struct {
	CAs []SecretRef
	// Insecure says that a client without a valid certificate is let in, too.
	Insecure bool
}

// PortValidation is what a port has in place of the default; nil: its clients prove nothing.
type PortValidation struct {
	Port       uint16
	Validation *ClientValidation
}
