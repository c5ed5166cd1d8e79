// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"maps"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// snapshotResource is how long a resource in a snapshot is, in bytes: in one of 100,000 workloads with two ports each, 400 of the mean.
const snapshotResource = 400

// Restored is what a snapshot gave.
type Restored struct {
	Resources int
	// Confirmed is when the control plane last said that it was so.
	Confirmed time.Time
}

// Restore takes over a snapshot file, as if a control plane had told it, except for what one has told since. It must not be called while Run runs; the
// next Run asks only for what is different by now. Synced stays open: nobody has said that it still is true. What a control plane that has not said all yet
// has said is left aside until then: the snapshot is applied as it was written.
//
// The error is a *SnapshotError if the file is refused, fs.ErrNotExist if there is none, or Apply's; the client is as it was then. Single resources that
// cannot be read are left out, and asked for again.
func (c *Client) Restore(path string, scope SnapshotScope, maxAge time.Duration) (Restored, error) {
	in, confirmed, shut, err := openSnapshot(path, scope, maxAge)
	if err != nil {
		return Restored{}, err
	}
	defer shut()
	// Maps that grow to a hundred thousand entries cost as much as to decode them. What a file has of small resources only, these are too small for.
	about := int(min(in.size/snapshotResource, maxSnapshotResources))
	told := mesh.Delta{Workloads: make(map[string]*mesh.Workload, about)}
	holdings := map[string]map[string]holding{addressURL: make(map[string]holding, about)}
	err = readSnapshot(in, func(m *message) {
		url := m.url
		if !c.subscribed(url) {
			return
		}
		delta, held, reasons, bad := c.read(m, func(name []byte) bool {
			_, told := c.known[url][string(name)]
			return told && c.isSynced() // before that, what was told is left aside
		})
		if bad > 0 {
			c.log.Info("resources of the snapshot left out", "type", short(url), "count", bad, "reason", clip(strings.Join(reasons, "; ")))
		}
		told = join(told, delta)
		if holdings[url] == nil {
			holdings[url] = map[string]holding{}
		}
		maps.Copy(holdings[url], held)
	})
	if err != nil {
		return Restored{}, refuseSnapshot(RefusedDamaged, "%w", err)
	}
	// One delta, because a reader's indexes are then built once.
	if !told.Empty() {
		if err := c.options.Apply(told); err != nil {
			return Restored{}, err
		}
	}
	for url, held := range holdings {
		known := c.known[url]
		first := len(known) == 0 && c.subscribed(url)
		for name, h := range held {
			switch now, heard := known[name]; {
			case !heard:
				remember(&c.held, h.kind, name) // the control plane took it back before it had said all; it will be asked about it
				if !first {
					known[name] = h
				}
			case now.kind != h.kind:
				forget(&c.held, h.kind, name) // it is in the snapshot what it is not any more
			}
		}
		if first {
			c.known[url] = held
		}
		c.metrics.resources.WithLabelValues(short(url)).Set(float64(len(c.known[url])))
	}
	return Restored{Resources: told.Len(), Confirmed: confirmed}, nil
}

// join adds what b has to a.
func join(a, b mesh.Delta) mesh.Delta {
	a.Workloads = joined(a.Workloads, b.Workloads)
	a.Services = joined(a.Services, b.Services)
	a.Policies = joined(a.Policies, b.Policies)
	a.Gateways = joined(a.Gateways, b.Gateways)
	a.Bundles = joined(a.Bundles, b.Bundles)
	return a
}

func joined[K comparable, V any](a, b map[K]V) map[K]V {
	if len(a) == 0 {
		return b
	}
	maps.Copy(a, b)
	return a
}
