// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"strconv"
	"sync"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
)

// places tells which tunnels the connections are in that are kept for later. A connection that is kept knows nothing of the tunnel around it: a request that took one in a tunnel that
// drains would be cut with it when its drain time is over. So each place has a name that its connections are kept under, and gets another one as soon as one of its tunnels drains.
type places struct {
	mu    sync.Mutex
	of    map[string]*place
	names uint64 // given so far: no place gets one that another had, nor one that it had before
}

// place is one endpoint, as requests see it.
type place struct {
	name    uint64
	asking  int // requests that were given the name and have no answer yet
	tunnels map[*hbone.Conn]*kept
}

// kept is a tunnel with connections that are open.
type kept struct {
	conns   int
	leaving func() bool
}

func newPlaces() *places { return &places{of: map[string]*place{}} }

// enter gives the name under which a request finds connections to a place, until leave. What is kept under names of before is closed when it was idle for long enough.
func (p *places) enter(at string) (name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	of := p.of[at]
	if of == nil {
		of = &place{}
		p.of[at] = of
		p.rename(of)
	}
	for _, t := range of.tunnels {
		if t.leaving() {
			p.rename(of)
			break
		}
	}
	of.asking++
	return nameOf(at, of.name)
}

// rename gives a place a name under which nothing is kept. mu must be held.
func (p *places) rename(of *place) {
	p.names++
	of.name, of.tunnels = p.names, map[*hbone.Conn]*kept{}
}

func nameOf(at string, name uint64) string { return at + "-" + strconv.FormatUint(name, 10) }

// leave is called once for each enter.
func (p *places) leave(at string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	of := p.of[at]
	of.asking--
	p.tidy(at, of)
}

// add notes a connection that was made for a name, until the function that it gives is called.
func (p *places) add(at, name string, tunnel *hbone.Conn, leaving func() bool) (remove func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	of := p.of[at]
	if tunnel == nil || of == nil || nameOf(at, of.name) != name {
		return func() {} // nobody will find it again
	}
	t := of.tunnels[tunnel]
	if t == nil {
		t = &kept{leaving: leaving}
		of.tunnels[tunnel] = t
	}
	t.conns++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if t.conns--; t.conns == 0 && of.tunnels[tunnel] == t {
			delete(of.tunnels, tunnel)
		}
		p.tidy(at, of)
	}
}

// tidy forgets a place of which nothing is kept. mu must be held.
func (p *places) tidy(at string, of *place) {
	if of.asking == 0 && len(of.tunnels) == 0 && p.of[at] == of {
		delete(p.of, at)
	}
}
