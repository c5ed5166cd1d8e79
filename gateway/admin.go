// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"encoding/json"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// dump is what /config_dump shows.
type dump struct {
	Gateway   *mesh.Gateway
	Network   string
	Identity  string
	Pending   []string
	Ambiguous []string // hostnames that two exported services claim
	Endpoints []endpointDump
}

type endpointDump struct {
	UID, ID  string
	Active   int
	Failures int
	Ejected  string `json:",omitempty"`
}

// Admin answers what an operator asks on the loopback: /config_dump and /debug/pprof/. It must not be reachable from elsewhere.
func (s *Server) Admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /config_dump", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		_ = enc.Encode(s.dump()) // fails only if the operator has left
	})
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

func (s *Server) dump() dump {
	out := dump{Identity: s.o.Identity.String(), Pending: s.Pending(), Network: s.o.Network, Endpoints: s.balancer.dump()}
	if c := s.config.Load(); c != nil {
		out.Gateway, out.Network = c.gateway, c.network
		for hostname, key := range c.byHostname {
			if key == (mesh.ServiceKey{}) {
				out.Ambiguous = append(out.Ambiguous, hostname)
			}
		}
		slices.Sort(out.Ambiguous)
	}
	return out
}

func (b *balancer) dump() []endpointDump {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]endpointDump, 0, len(b.known))
	for uid, state := range b.known {
		e := endpointDump{UID: uid, ID: state.id, Active: state.active, Failures: state.fails}
		if b.now().Before(state.ejected) {
			e.Ejected = state.ejected.UTC().Format(time.RFC3339Nano)
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b endpointDump) int { return strings.Compare(a.UID, b.UID) })
	return out
}
