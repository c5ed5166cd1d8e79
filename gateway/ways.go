// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"crypto/tls"
	"errors"

	gatewayhttp "github.com/isthmus-mesh/isthmus/gateway/http"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// ways are what becomes of a port's connections, by one configuration. It is never changed.
type ways struct {
	port uint16 // the Gateway's
	// tcp says that connections are not looked at: all of them go to stream, if there is one.
	tcp    bool
	stream *mesh.StreamRoute
	// web takes the connections of listeners for HTTPS; nil: there are none.
	web *webPort
	// hosts are the listeners for TLS and HTTPS, by their hostnames: the one that fits best takes a connection, and no other one does.
	hosts names[*tlsHost]
	pairs *gatewayhttp.KeyPairs // of what ends here
}

// tlsHost is a listener for TLS, or for HTTPS.
type tlsHost struct {
	routes names[*mesh.TLSRoute]
	// ends is how TLS is ended here, if it is to be; nil while passes is false: there is no certificate, and handshakes fail.
	ends   *tls.Config
	passes bool
	// requests says that web serves it.
	requests bool
}

// newWays joins listeners that share a port; web serves those for HTTPS among them. before is what there was so far, or nil. Certificates that cannot be used are left out, and
// an error says why.
func newWays(listeners []mesh.Listener, web *webPort, before *ways) (*ways, error) {
	w := &ways{port: listeners[0].Port, web: web}
	if before != nil {
		w.pairs = before.pairs
	}
	w.pairs = w.pairs.Next(listeners, func(l mesh.Listener) bool { return l.Protocol == mesh.ListenerTLSTerminate })
	var problems error
	for _, l := range listeners {
		if l.Protocol == mesh.ListenerTCP {
			w.tcp, w.stream = true, l.Stream
			continue
		}
		if l.Protocol == mesh.ListenerHTTPS {
			w.hosts.put(l.Hostname, &tlsHost{requests: true})
			continue
		}
		host := &tlsHost{passes: l.Protocol == mesh.ListenerTLS}
		if !host.passes {
			var err error
			if host.ends, err = ending(&l, w.pairs); err != nil {
				problems = errors.Join(problems, err)
			}
		}
		for _, r := range l.TLSRoutes {
			if len(r.Hostnames) == 0 {
				host.routes.put("", r)
			}
			for _, h := range r.Hostnames {
				host.routes.put(h, r)
			}
		}
		w.hosts.put(l.Hostname, host)
	}
	return w, problems
}

// requests says whether a name belongs to a listener for HTTPS.
func (w *ways) requests(name string) bool {
	host, ok := w.hosts.find(name)
	return ok && host.requests
}

// ending is the TLS side of a listener that ends it; nil without a certificate that can be used.
func ending(l *mesh.Listener, pairs *gatewayhttp.KeyPairs) (*tls.Config, error) {
	usable, problems := pairs.Of(l)
	if len(usable) == 0 {
		return nil, problems
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: usable}, problems
}

// pickBackend chooses one by weight; random gives a number in [0, n). It is false if none has any.
func pickBackend(backends []mesh.StreamBackend, random func(n uint64) uint64) (mesh.StreamBackend, bool) {
	total := uint64(0)
	for _, b := range backends {
		total += uint64(b.Weight)
	}
	if total == 0 {
		return mesh.StreamBackend{}, false
	}
	at := random(total)
	for _, b := range backends {
		if at < uint64(b.Weight) {
			return b, true
		}
		at -= uint64(b.Weight)
	}
	return mesh.StreamBackend{}, false
}
