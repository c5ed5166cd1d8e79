// SPDX-License-Identifier: Apache-2.0

package mesh

import "time"

// HTTPRoute is an HTTPRoute or a GRPCRoute that is attached to listeners, with everything that it refers to found, or found wanting. Which hostnames
// it answers at a listener is for the listener's hostname to say as well: a request must fit both.
type HTTPRoute struct {
	// GRPC says that it is a GRPCRoute. No host at a listener has routes of both kinds.
	GRPC            bool
	Namespace, Name string
	// Created is in Unix seconds: of two rules that fit a request equally well, that of the older route counts.
	Created int64
	// Hostnames are lower case, exact ("shop.example.com") or with a wildcard in front ("*.example.com"); none: every host.
	Hostnames []string
	// Rules are in the order of the object, which decides between rules that are equal otherwise.
	Rules []HTTPRule
}

// RouteKey names a route of a kind.
type RouteKey struct{ Namespace, Name string }

// String gives "namespace/name".
func (k RouteKey) String() string { return k.Namespace + "/" + k.Name }

// Key names the route.
func (r *HTTPRoute) Key() RouteKey { return RouteKey{r.Namespace, r.Name} }

// HTTPRule says what becomes of requests that fit one of its matches.
type HTTPRule struct {
	Name string
	// Matches are alternatives; a rule has at least one.
	Matches []HTTPMatch
	Filters HTTPFilters
	// Problem, if not empty, says why requests are answered with 500 whatever the backends are.
	Problem string
	// Backends share the requests by weight. None, or no weight at all: requests are answered with 500.
	Backends []HTTPBackend
	// RequestTimeout bounds a whole exchange, BackendTimeout one attempt at one endpoint, until its response has come whole; 0: no bound.
	RequestTimeout, BackendTimeout time.Duration
	// Retry says what is tried again; nil: connections that cannot be made, and nothing else.
	Retry *HTTPRetry
}

// HTTPMatch fits a request of which all of this is true.
type HTTPMatch struct {
	// Path begins with a slash. It is compared as a whole if Exact, else as a prefix of whole elements: "/a" fits "/a" and "/a/b" and
	// not "/ab"; a prefix has no slash at its end, unless it is "/".
	Path  string
	Exact bool
	// Method is empty for any.
	Method string
	// RPC, if not empty, is the last element of a path that has two: the name of a gRPC method of any service.
	RPC string
	// Headers and Query must all be there with these very values. Names of headers are in canonical form (http.CanonicalHeaderKey).
	Headers, Query []NameValue
}

// NameValue is a header or a query parameter.
type NameValue struct{ Name, Value string }

// HTTPFilters are what is done to requests and responses on their way, at a rule or at one of its backends.
type HTTPFilters struct {
	Request, Response HeaderChange
	// Redirect answers the request; nothing is asked of backends then.
	Redirect *HTTPRedirect
	Rewrite  *HTTPRewrite
	Mirrors  []HTTPMirror
	// CORS, if not nil, answers preflight requests, and says to browsers which origins may read answers.
	CORS *CORS
}

// HeaderChange changes headers: Remove first, then Set, then Add. Names are in canonical form.
type HeaderChange struct {
	Set, Add []NameValue
	Remove   []string
}

// Empty says that nothing changes.
func (h HeaderChange) Empty() bool { return len(h.Set)+len(h.Add)+len(h.Remove) == 0 }

// PathChange is what a redirect or a rewrite makes of a path.
type PathChange struct {
	Kind PathChangeKind
	// Value is the new path, or what stands for the matched prefix.
	Value string
}

// PathChangeKind is a way to change a path.
type PathChangeKind uint8

const (
	// PathKept changes nothing.
	PathKept PathChangeKind = iota
	// PathReplaced puts another path in place of the whole one.
	PathReplaced
	// PathPrefixReplaced replaces the prefix that the rule's match found.
	PathPrefixReplaced
)

// HTTPRedirect sends the client elsewhere. What is empty or 0 stays as the request has it.
type HTTPRedirect struct {
	Scheme, Hostname string
	Path             PathChange
	Port             uint16
	Status           uint16 // 3xx
}

// HTTPRewrite changes what a backend is asked for.
type HTTPRewrite struct {
	Hostname string
	Path     PathChange
}

// HTTPMirror sends a copy of some requests to another backend, whose answers nobody sees.
type HTTPMirror struct {
	Backend HTTPBackend
	// Numerator of Denominator requests are copied; Denominator is never 0.
	Numerator, Denominator uint32
}

// HTTPBackend is where requests go.
type HTTPBackend struct {
	Service ServiceKey
	Port    uint16 // of the service
	Weight  uint32
	// HTTP2 says that it is asked in HTTP/2, also if its port does not say that it speaks it.
	HTTP2 bool
	// Problem, if not empty, says why there is no such backend: the requests that are its share are answered with 500.
	Problem string
	Filters HTTPFilters
}
