// SPDX-License-Identifier: Apache-2.0

package world

import gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

// RouteParent is an entry of a route's spec.parentRefs, with the API's defaults filled in.
type RouteParent struct {
	Group, Kind, Namespace, Name string
	Section                      string
	Port                         uint16 // 0: any
}

// HTTPRoute is a Gateway API HTTPRoute of our own cluster, whose API server checked it. Nearly every field of a rule is read, so rules are
// kept as the API has them; they are shared with its object and must not be changed.
type HTTPRoute struct {
	Key
	Generation int64
	Created    int64 // Unix seconds
	Parents    []RouteParent
	Hostnames  []string // lower case
	Rules      []gatewayv1.HTTPRouteRule
}

// Ref names the route.
func (r *HTTPRoute) Ref() ObjectRef { return ObjectRef{KindHTTPRoute, r.Key} }

// TLSRoute is a Gateway API TLSRoute of our own cluster, as HTTPRoute.
type TLSRoute struct {
	Key
	Generation int64
	Created    int64 // Unix seconds
	Parents    []RouteParent
	Hostnames  []string // lower case
	Rules      []gatewayv1.TLSRouteRule
}

// Ref names the route.
func (r *TLSRoute) Ref() ObjectRef { return ObjectRef{KindTLSRoute, r.Key} }

// GrantFrom is who may refer.
type GrantFrom struct{ Group, Kind, Namespace string }

// GrantTo is what may be referred to; an empty Name is every object of the kind.
type GrantTo struct{ Group, Kind, Name string }

// ReferenceGrant lets objects of other namespaces refer to objects of its own.
type ReferenceGrant struct {
	Key
	From []GrantFrom
	To   []GrantTo
}

// Ref names the grant.
func (g *ReferenceGrant) Ref() ObjectRef { return ObjectRef{KindReferenceGrant, g.Key} }

// Secret is the certificate in a Secret that is referred to, and that may be read for it, and its CA certificates.
type Secret struct {
	Key
	Chain, PrivateKey string // PEM
	// Absent says that it was looked for, and there is none; the rest is empty then. Without an entry nobody has looked yet.
	Absent bool
	// Problem, if not empty, says why the Secret holds no certificate with its key; these are empty then.
	Problem string
	// Anchors are its CA certificates (PEM), or AnchorsProblem says why there are none.
	Anchors, AnchorsProblem string
}

// Ref names the secret.
func (s *Secret) Ref() ObjectRef { return ObjectRef{KindSecret, s.Key} }

// SecretRef is a reference to a certificate or to CA certificates, with the API's defaults filled in.
type SecretRef struct{ Group, Kind, Namespace, Name string }
