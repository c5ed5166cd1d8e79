// SPDX-License-Identifier: Apache-2.0

package http

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// ejectMin and ejectMax bound how long an endpoint that could not be connected to, or answers badly, is left alone; the time doubles with each failure in a row.
const ejectMin, ejectMax = time.Second, 30 * time.Second

// sickAfter is how many bad answers in a row make a failure, as one may be the request's fault. After a failure each further one does, until there is a good answer.
const sickAfter = 5

// outliers are the endpoints that failed lately: those that could not be connected to, and those that answered badly. While there are none, asking costs one load; what is asked about one port of a service costs nothing that grows with the endpoints of others.
type outliers struct {
	now func() time.Time

	some  atomic.Bool
	swept atomic.Int64 // when those of all ports were looked at last, in nanoseconds of Unix time
	mu    sync.RWMutex // hold for known, and to read for all below
	known map[portOf]*portOutliers
}

// portOf is a port of a service, as all know it or as one route does.
type portOf struct {
	service mesh.ServiceKey
	port    uint16
	// route is whose attempts count, and who leaves endpoints out for them; zero: everybody. An endpoint is slow by the measure of a rule's own time alone, which may be anything: whoever made the
	// rule must not take the endpoint away from those who give it more.
	route mesh.RouteKey
}

// portOutliers are those of one port of a service: the others of the pod's ports, at which something else listens, may be well.
type portOutliers struct {
	mu sync.Mutex // hold for of
	of map[string]outlier
}

// portKey is an endpoint as a port of a service has it.
type portKey struct {
	portOf
	uid string
}

// keyOf is an endpoint as all know it.
func keyOf(e Endpoint) portKey {
	return portKey{portOf{service: e.Service.Key(), port: e.Port}, e.Workload.UID}
}

// by is the same as a route knows it.
func (k portKey) by(route *mesh.HTTPRoute) portKey {
	k.route = route.Key()
	return k
}

type outlier struct {
	failures int // in a row
	bad      int // answers in a row, as far as they count
	until    time.Time
}

// leave has it left alone for a while.
func (was outlier) leave(now time.Time) outlier {
	return outlier{was.failures + 1, was.bad, now.Add(min(ejectMax, ejectMin<<min(was.failures, 10)))}
}

// failed is for an endpoint that could not be connected to.
func (o *outliers) failed(of portKey) { o.note(of, outlier.leave) }

// answeredBadly is for one whose answer is none. It says whether it is left alone for that from now on.
func (o *outliers) answeredBadly(of portKey) (left bool) {
	o.note(of, func(was outlier, now time.Time) outlier {
		if was.bad++; was.bad < sickAfter {
			was.until = now // remembered, and not left alone
			return was
		}
		was.bad, left = sickAfter-1, true
		return was.leave(now)
	})
	return left
}

// note changes what is known of an endpoint, unless it is left alone already: many requests find the same failure.
func (o *outliers) note(of portKey, change func(was outlier, now time.Time) outlier) {
	if !o.noteKnown(of, change) {
		o.mu.Lock()
		if o.known == nil {
			o.known = map[portOf]*portOutliers{}
		}
		if o.known[of.portOf] == nil {
			o.known[of.portOf] = &portOutliers{of: map[string]outlier{}}
			o.some.Store(true)
		}
		o.mu.Unlock()
		o.noteKnown(of, change) // whoever has swept it meanwhile has this failure too: another will come
	}
}

// noteKnown does so if anything is known of the port.
func (o *outliers) noteKnown(of portKey, change func(was outlier, now time.Time) outlier) bool {
	o.mu.RLock()
	defer o.mu.RUnlock()
	p := o.known[of.portOf]
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.of[of.uid]
	if now := o.now(); !now.Before(was.until) {
		p.of[of.uid] = change(was, now)
	}
	return true
}

// succeeded forgets an endpoint's failures.
func (o *outliers) succeeded(of portKey) {
	if !o.some.Load() {
		return
	}
	o.mu.RLock()
	defer o.mu.RUnlock()
	if p := o.known[of.portOf]; p != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.of, of.uid)
	}
}

// out are the UIDs of the endpoints of a service's port to leave out, in a set of the caller's own; nil: none.
func (o *outliers) out(of portOf) map[string]struct{} {
	if !o.some.Load() {
		return nil
	}
	now := o.now()
	o.sweep(now)
	o.mu.RLock()
	defer o.mu.RUnlock()
	p := o.known[of]
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var out map[string]struct{}
	for uid, known := range p.of {
		if now.Before(known.until) {
			if out == nil {
				out = map[string]struct{}{}
			}
			out[uid] = struct{}{}
		}
	}
	return out
}

// sweep forgets failures a while after their endpoint was let in again, for all ports at once and not more often than that matters.
func (o *outliers) sweep(now time.Time) {
	last := o.swept.Load()
	if now.UnixNano()-last < int64(ejectMax) || !o.swept.CompareAndSwap(last, now.UnixNano()) {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for of, p := range o.known {
		for uid, known := range p.of {
			if now.Sub(known.until) > 2*ejectMax {
				delete(p.of, uid)
			}
		}
		if len(p.of) == 0 {
			delete(o.known, of)
		}
	}
	o.some.Store(len(o.known) > 0)
}
