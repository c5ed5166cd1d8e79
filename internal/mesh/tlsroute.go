// SPDX-License-Identifier: Apache-2.0

package mesh

// ListenerTLS looks at the server name of TLS connections and passes them on, unread, to the backends of the route that has the name.
const ListenerTLS ListenerProtocol = 4

// TLSRoute is a TLSRoute at one listener, with everything that it refers to found, or found wanting.
type TLSRoute struct {
	Namespace, Name string
	// Created is in Unix seconds: of two routes with a hostname, the older one has it.
	Created int64
	// Hostnames are those that the route has in common with its listener, lower case, exact or with a wildcard in front ("*.example.com"); none:
	// every name, and connections without one.
	Hostnames []string
	// Backends share the connections by weight. None, or no weight at all: connections are refused.
	Backends []TLSBackend
}

// TLSBackend is where connections go.
type TLSBackend struct {
	Service ServiceKey
	Port    uint16 // of the service
	Weight  uint32
	// Problem, if not empty, says why there is no such backend: the connections that are its share are refused.
	Problem string
}
