// SPDX-License-Identifier: Apache-2.0

package http

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/backendtls"
)

// place is what connections are kept by: an address, and the TLS settings that they were made with, or nil.
type place struct {
	addr netip.AddrPort
	tls  *backendtls.Settings
}

// idleConns are connections that no request has, by endpoint, the one that was used last at the end. The zero value is ready.
type idleConns struct {
	mu    sync.Mutex
	of    map[place]*shelf
	sweep *time.Timer // nil while there are none
}

// shelf has the connections to one endpoint.
type shelf struct{ conns []*directConn }

// take gives a connection to an endpoint that is open; nil: there is none.
func (i *idleConns) take(at place) *directConn {
	for {
		i.mu.Lock()
		of := i.of[at]
		if of == nil || len(of.conns) == 0 {
			i.mu.Unlock()
			return nil
		}
		last := len(of.conns) - 1
		c := of.conns[last]
		of.conns[last] = nil
		of.conns = of.conns[:last]
		i.mu.Unlock()
		if c.silent() {
			return c
		}
		c.nc.Close()
	}
}

// put keeps a connection, or closes it if enough are kept.
func (i *idleConns) put(c *directConn) {
	c.since = time.Now()
	i.mu.Lock()
	defer i.mu.Unlock()
	of := i.of[c.at]
	if of != nil && len(of.conns) >= idlePerEndpoint || c.at.tls != nil && c.at.tls.Retired() {
		c.nc.Close()
		return
	}
	if of == nil {
		if i.of == nil {
			i.of = map[place]*shelf{}
		}
		of = &shelf{}
		i.of[c.at] = of
	}
	of.conns = append(of.conns, c)
	if i.sweep == nil {
		i.sweep = time.AfterFunc(sweepEvery, i.closeOld)
	}
}

// closeOld closes what was kept for too long.
func (i *idleConns) closeOld() {
	i.mu.Lock()
	defer i.mu.Unlock()
	before := time.Now().Add(-idleAtEndpoint)
	for at, of := range i.of {
		old := 0 // they are in the order in which they came
		for old < len(of.conns) && of.conns[old].since.Before(before) {
			of.conns[old].nc.Close()
			old++
		}
		if old == len(of.conns) {
			delete(i.of, at)
			continue
		}
		of.conns = slices.Delete(of.conns, 0, old)
	}
	if i.sweep = nil; len(i.of) > 0 {
		i.sweep = time.AfterFunc(sweepEvery, i.closeOld)
	}
}

// closeOf closes those that were made with settings.
func (i *idleConns) closeOf(s *backendtls.Settings) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for at, of := range i.of {
		if at.tls != s {
			continue
		}
		for _, c := range of.conns {
			c.nc.Close()
		}
		delete(i.of, at)
	}
}

// closeAll closes all.
func (i *idleConns) closeAll() {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, of := range i.of {
		for _, c := range of.conns {
			c.nc.Close()
		}
	}
	i.of = nil
	if i.sweep != nil {
		i.sweep.Stop()
		i.sweep = nil
	}
}
