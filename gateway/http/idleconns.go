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
	of    map[place][]*directConn
	sweep *time.Timer // nil while there are none
}

// take gives a connection to an endpoint that is open; nil: there is none.
func (i *idleConns) take(at place) *directConn {
	for {
		i.mu.Lock()
		list := i.of[at]
		n := len(list)
		if n == 0 {
			i.mu.Unlock()
			return nil
		}
		c := list[n-1]
		list[n-1] = nil
		i.of[at] = list[:n-1]
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
	if len(i.of[c.at]) >= idlePerEndpoint || c.at.tls != nil && c.at.tls.Retired() {
		c.nc.Close()
		return
	}
	if i.of == nil {
		i.of = map[place][]*directConn{}
	}
	i.of[c.at] = append(i.of[c.at], c)
	if i.sweep == nil {
		i.sweep = time.AfterFunc(sweepEvery, i.closeOld)
	}
}

// closeOld closes what was kept for too long.
func (i *idleConns) closeOld() {
	i.mu.Lock()
	defer i.mu.Unlock()
	before := time.Now().Add(-idleAtEndpoint)
	for at, list := range i.of {
		old := 0 // they are in the order in which they came
		for old < len(list) && list[old].since.Before(before) {
			list[old].nc.Close()
			old++
		}
		if old == len(list) {
			delete(i.of, at)
			continue
		}
		i.of[at] = slices.Delete(list, 0, old)
	}
	if i.sweep = nil; len(i.of) > 0 {
		i.sweep = time.AfterFunc(sweepEvery, i.closeOld)
	}
}

// closeOf closes those that were made with settings.
func (i *idleConns) closeOf(s *backendtls.Settings) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for at, list := range i.of {
		if at.tls != s {
			continue
		}
		for _, c := range list {
			c.nc.Close()
		}
		delete(i.of, at)
	}
}

// closeAll closes all.
func (i *idleConns) closeAll() {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, list := range i.of {
		for _, c := range list {
			c.nc.Close()
		}
	}
	i.of = nil
	if i.sweep != nil {
		i.sweep.Stop()
		i.sweep = nil
	}
}
