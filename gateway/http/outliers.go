// SPDX-License-Identifier: Apache-2.0

package http

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// ejectMin and ejectMax bound how long an endpoint that could not be connected to is left alone; the time doubles with each failure in a row.
const ejectMin, ejectMax = time.Second, 30 * time.Second

// outliers are the endpoints that could not be connected to lately. While there are none, asking costs one load.
type outliers struct {
	now func() time.Time

	some  atomic.Bool
	mu    sync.Mutex // hold for known
	known map[portKey]outlier
}

// portKey is an endpoint as a port of a service has it: the others of the pod's ports, at which something else listens, may be well.
type portKey struct {
	service mesh.ServiceKey
	port    uint16
	uid     string
}

func keyOf(e Endpoint) portKey { return portKey{e.Service.Key(), e.Port, e.Workload.UID} }

type outlier struct {
	failures int
	until    time.Time
}

func (o *outliers) failed(of portKey) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.known == nil {
		o.known = map[portKey]outlier{}
	}
	was := o.known[of]
	now := o.now()
	if now.Before(was.until) {
		return // out already: many requests find the same failure
	}
	out := min(ejectMax, ejectMin<<min(was.failures, 10))
	o.known[of] = outlier{was.failures + 1, now.Add(out)}
	o.some.Store(true)
}

// succeeded forgets an endpoint's failures.
func (o *outliers) succeeded(of portKey) {
	if !o.some.Load() {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.known, of)
	o.some.Store(len(o.known) > 0)
}

// out are the UIDs of the endpoints of a service's port to leave out; nil: none. Failures are forgotten a while after an endpoint was let in again.
func (o *outliers) out(service mesh.ServiceKey, port uint16) map[string]struct{} {
	if !o.some.Load() {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.now()
	var out map[string]struct{}
	for of, known := range o.known {
		switch {
		case now.Before(known.until):
			if of.service != service || of.port != port {
				continue
			}
			if out == nil {
				out = map[string]struct{}{}
			}
			out[of.uid] = struct{}{}
		case now.Sub(known.until) > 2*ejectMax:
			delete(o.known, of)
		}
	}
	o.some.Store(len(o.known) > 0)
	return out
}
