// SPDX-License-Identifier: Apache-2.0

package mesh

// TLSRoute is a TLSRoute at one listener, with everything that it refers to found, or found wanting.
type TLSRoute struct {
	Namespace, Name string
	// Hostnames are those that the route has at its listener, and no other route of the listener has: lower case, exact or with a wildcard in
	// front ("*.example.com"); none: every name, and connections without one.
	Hostnames []string
	// Backends share the connections by weight. None, or no weight at all: connections are refused.
	Backends []StreamBackend
}
