// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Readiness answers /healthz/ready with 200 while the gateway takes streams and with 500 and what is missing while it does not,
// from the beginning of a drain on too, and /healthz/live with 200. Who asks for /healthz/ready?settling hears of a drain when Settle is over, until when streams are taken:
// Kubernetes sends no pod that ends anything new as long as there are others, and where there are none on a node it does if the pod still says that it is ready.
func (s *Server) Readiness() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz/ready", func(w http.ResponseWriter, r *http.Request) {
		pending := s.Pending()
		if r.URL.Query().Has("settling") && !s.settled.Load() {
			pending = slices.DeleteFunc(pending, func(what string) bool { return what == draining })
		}
		if len(pending) > 0 {
			http.Error(w, strings.Join(pending, "\n"), http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	mux.HandleFunc("GET /healthz/live", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "live") })
	return mux
}

// uncertified says why there is no valid certificate to serve with, the first one or, when the issuer was away for long, the next one; or nil.
func (s *Server) uncertified() error {
	now, cancel := context.WithCancel(context.Background())
	cancel() // who asks for readiness does not wait for an issuer
	_, err := s.o.Source.Certificate(now, s.o.Identity)
	return err
}

// draining is what Pending says of a server that was told to end.
const draining = "draining"

// Pending lists what keeps the gateway from being ready, sorted; none means ready.
func (s *Server) Pending() []string {
	var out []string
	if s.draining.Load() {
		out = append(out, draining)
	}
	if s.config.Load() == nil {
		out = append(out, "configuration: none received for "+s.o.Gateway.String())
	}
	if s.o.Synced != nil {
		select {
		case <-s.o.Synced:
		default:
			out = append(out, "discovery: first answer not complete")
		}
	}
	if err := s.uncertified(); err != nil {
		out = append(out, err.Error())
	}
	if text := s.unboundText.Load(); text != nil {
		out = append(out, "listeners: "+*text)
	}
	slices.Sort(out)
	return out
}
