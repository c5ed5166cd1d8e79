// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"fmt"
	"math/rand/v2"
	"net/http"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func unavailable(reason Reason, err error) *Refusal {
	return &Refusal{http.StatusServiceUnavailable, reason, err}
}

// admit decides whether a connection to a port is carried, and to which of a route's backends. If it is, it counts until leave.
func (p *streamPort) admit(st *stream, port uint16, route string, backends []mesh.StreamBackend) (target, *Refusal) {
	s := p.server
	backend, ok := pickBackend(backends, rand.Uint64N)
	if !ok || backend.Problem != "" {
		return target{}, unavailable(ReasonNoBackend, fmt.Errorf("%s: %s", route, backend.Problem))
	}
	service := s.live.Load().Service(backend.Service)
	if service == nil {
		return target{}, unavailable(ReasonNoBackend, fmt.Errorf("%s: service %s is not known", route, backend.Service))
	}
	t := target{service: service, named: backend.Service, port: backend.Port, plain: true, entry: port}
	t, refusal := s.allow(st, t)
	if refusal != nil {
		return target{}, refusal
	}
	return t, s.takeStream(st, t.named)
}

// allow asks the policies about a stream without an identity, and notes by which configuration it was judged. It gives the target as the
// configuration sees it.
func (s *Server) allow(st *stream, t target) (target, *Refusal) {
	for { // as decide does
		c := s.config.Load()
		if t.service != nil {
			t.vip = c.vip(t.service, t.vip)
		}
		if refusal := s.authorize(c, st, t); refusal != nil {
			return t, refusal
		}
		if s.streams.admit(st, c, t); s.config.Load() == c {
			return t, nil
		}
	}
}

// takeStream counts a stream in, or says that there is no room.
func (s *Server) takeStream(st *stream, service mesh.ServiceKey) *Refusal {
	if !s.streamQuota.take(st.peer) {
		s.metrics.limited.WithLabelValues("streams").Inc()
		return unavailable(ReasonOverload, fmt.Errorf("%d streams in all", s.streamQuota.used()))
	}
	if !s.services.take(service) {
		s.streamQuota.give(st.peer)
		s.metrics.limited.WithLabelValues("streams_per_service").Inc()
		return unavailable(ReasonServiceOverload, fmt.Errorf("service %s", service))
	}
	return nil
}

// giveStream gives the place back.
func (s *Server) giveStream(service mesh.ServiceKey) {
	s.services.give(service)
	s.streamQuota.give(mesh.Identity{})
}

// leave is called once for each connection that was admitted.
func (p *streamPort) leave(t target) { p.server.giveStream(t.named) }
