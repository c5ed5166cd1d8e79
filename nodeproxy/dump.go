// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"crypto/x509"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
)

// dump writes everything that the proxy was told, sorted.
func (x *Proxy) dump(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	s, out := x.o.View.Load().Snapshot(), newObject(w)
	defer out.end()
	out.field("Network", x.o.Network)
	out.field("Cluster", x.o.Cluster)
	if k := x.o.Keeper; k != nil {
		out.field("Restored", k.Restored())                   // from a snapshot
		out.field("Age", k.Age().Round(time.Second).String()) // since a controller confirmed all this
	}
	out.field("Waits", x.Waits())
	out.field("Obstructed", x.pods.obstructed())
	var pods []string
	for _, p := range x.pods.list() {
		pods = append(pods, p.String())
	}
	slices.Sort(pods)
	out.field("Pods", pods)
	list(out, "Trust", x.o.Certificates.Trusts(), showTrust)
	list(out, "Workloads", sorted(s.Workloads), showWorkload)
	list(out, "Services", slices.SortedFunc(maps.Values(s.Services), func(a, b *mesh.Service) int { return strings.Compare(a.Key().String(), b.Key().String()) }),
		func(one *mesh.Service) any { return one })
	list(out, "Policies", sorted(s.Policies), func(one *mesh.Policy) any { return one })
}

// sorted gives the values of a map in the order of their keys.
func sorted[V any](of map[string]V) []V {
	out := make([]V, 0, len(of))
	for _, key := range slices.Sorted(maps.Keys(of)) {
		out = append(out, of[key])
	}
	return out
}

// showWorkload has the services, whose keys are no text in JSON, by their names.
func showWorkload(one *mesh.Workload) any {
	services := map[string][]mesh.Port{}
	for key, ports := range one.Services {
		services[key.String()] = ports
	}
	return struct {
		*mesh.Workload
		Services map[string][]mesh.Port
	}{one, services}
}

// certificate is what is shown of one.
type certificate struct {
	Serial, Issuer      string
	NotBefore, NotAfter time.Time
}

func show(c *x509.Certificate) certificate {
	return certificate{c.SerialNumber.Text(16), c.Issuer.String(), c.NotBefore, c.NotAfter}
}

func showTrust(one mtls.Trust) any {
	out := struct {
		TrustDomain string
		AliasOf     string `json:",omitempty"`
		Told        bool   // by the controller; otherwise it came with a certificate
		Roots       []certificate
		Revoked     int         // certificates
		Lists       []time.Time `json:",omitempty"` // when each list of these is to be followed by another one
	}{TrustDomain: one.TrustDomain, AliasOf: one.AliasOf, Told: one.Told, Revoked: one.Revoked, Lists: one.Lists}
	for _, root := range one.Roots {
		out.Roots = append(out.Roots, show(root))
	}
	return out
}

// dumpConnections writes what is open, oldest first.
func (x *Proxy) dumpConnections(w http.ResponseWriter, _ *http.Request) {
	type line struct {
		Direction                         Direction
		Tunnel, Pod, Peer, Service        string
		Source, Destination, Network, Age string
		Sent, Received                    int64
	}
	out := []line{}
	for _, c := range x.connections.list() {
		out = append(out, line{
			Direction: c.Direction, Tunnel: c.Tunnel, Pod: c.Pod, Peer: c.Peer.String(), Service: c.Service,
			Source: c.Source.String(), Destination: c.Destination.String(), Network: c.Network,
			Age: time.Since(c.Opened).Round(time.Millisecond).String(), Sent: c.Stats.Received.Load(), Received: c.Stats.Sent.Load(),
		})
	}
	write(w, out)
}

// dumpCertificates writes what certificates there are, by identity. Keys are not reachable from here.
func (x *Proxy) dumpCertificates(w http.ResponseWriter, _ *http.Request) {
	type line struct {
		Identity string
		Valid    bool
		Chain    []certificate // the leaf first
		Error    string        `json:",omitempty"` // of the last attempt
		Next     *time.Time    `json:",omitempty"` // attempt; none while one is under way
	}
	out := []line{}
	for _, s := range x.o.Certificates.States() {
		l := line{Identity: s.Identity.String(), Valid: s.Valid, Chain: []certificate{}}
		for _, der := range s.Chain {
			if c, err := x509.ParseCertificate(der); err == nil {
				l.Chain = append(l.Chain, show(c))
			}
		}
		if s.Err != nil {
			l.Error = s.Err.Error()
		}
		if !s.Next.IsZero() {
			l.Next = &s.Next
		}
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b line) int { return strings.Compare(a.Identity, b.Identity) })
	write(w, out)
}

func write(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.Encode(v) //nolint:errcheck // whoever asked has gone
}
