// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"crypto/x509"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// dump writes everything that the proxy was told, sorted.
func (x *Proxy) dump(w http.ResponseWriter, _ *http.Request) {
	s := x.o.View.Load().Snapshot()
	type workload struct {
		*mesh.Workload
		Services map[string][]mesh.Port
	}
	out := struct {
		Network, Cluster string
		Restored         bool   `json:",omitempty"` // from a snapshot
		Age              string `json:",omitempty"` // since a controller confirmed all this
		Waits, Pods      []string
		Workloads        []workload
		Services         []*mesh.Service
		Policies         []*mesh.Policy
	}{Network: x.o.Network, Cluster: x.o.Cluster, Waits: x.Waits()}
	if k := x.o.Keeper; k != nil {
		out.Restored, out.Age = k.Restored(), k.Age().Round(time.Second).String()
	}
	for _, p := range x.pods.list() {
		out.Pods = append(out.Pods, p.String())
	}
	for _, one := range s.Workloads {
		services := map[string][]mesh.Port{}
		for key, ports := range one.Services {
			services[key.String()] = ports
		}
		out.Workloads = append(out.Workloads, workload{one, services})
	}
	for _, one := range s.Services {
		out.Services = append(out.Services, one)
	}
	for _, one := range s.Policies {
		out.Policies = append(out.Policies, one)
	}
	slices.Sort(out.Pods)
	slices.SortFunc(out.Workloads, func(a, b workload) int { return strings.Compare(a.UID, b.UID) })
	slices.SortFunc(out.Services, func(a, b *mesh.Service) int { return strings.Compare(a.Key().String(), b.Key().String()) })
	slices.SortFunc(out.Policies, func(a, b *mesh.Policy) int { return strings.Compare(a.Key(), b.Key()) })
	write(w, out)
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
	type certificate struct {
		Serial, Issuer      string
		NotBefore, NotAfter time.Time
	}
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
				l.Chain = append(l.Chain, certificate{c.SerialNumber.Text(16), c.Issuer.String(), c.NotBefore, c.NotAfter})
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
