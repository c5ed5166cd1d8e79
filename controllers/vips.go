// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"hash/fnv"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

const (
	// vipsName is the first of the ConfigMaps that hold the addresses of services that exist in other clusters only; shardName names
	// the others.
	vipsName = "isthmus-vips"
	// vipShards is how many there are. A ConfigMap holds at most 1 MiB, and all 65534 addresses take up to 20 MB: 308 bytes each, with the
	// longest names (63 for the name, and twice for the namespace) and the time of release. In 32 of them it is 0.6 MB each.
	vipShards = 32
	// vipRest is how long an address rests after its service is gone: no client's DNS answer or connection is that old.
	vipRest = time.Hour
)

// vipRange and vipRange6 are where the addresses come from.
var vipRange, vipRange6 = world.ReservedV4, world.ReservedV6

// vipCount is how many addresses there are: those of a /16 but for its first and last.
const vipCount = 1<<16 - 2

// lease is one entry of a ConfigMap, under the service's hostname.
type lease struct {
	Namespace string     `json:"namespace"`
	V4        netip.Addr `json:"v4"`
	V6        netip.Addr `json:"v6"`
	// Released is when the service went away; nil while it is there.
	Released *time.Time `json:"released,omitempty"`
}

// leases are all addresses given out. It is a value: allocate makes a new one.
type leases map[mesh.ServiceKey]lease

// allocate gives every wanted service an address, keeps those that have one, marks those no longer wanted as released, and forgets
// what rested long enough. It starts where a service's name hashes to, so that addresses seldom differ after a ConfigMap was lost.
// Changed says whether the result differs; next is when something released may be forgotten, zero if nothing is; unserved are the
// services for which no address is left.
func (l leases) allocate(want []mesh.ServiceKey, now time.Time) (result leases, changed bool, next time.Time, unserved []mesh.ServiceKey) {
	wanted := map[mesh.ServiceKey]bool{}
	for _, k := range want {
		wanted[k] = true
	}
	result = leases{}
	var used [1 << 16]bool
	for k, v := range l {
		switch {
		case wanted[k] && v.Released != nil:
			v.Released, changed = nil, true
		case !wanted[k] && v.Released == nil:
			at := now.UTC().Truncate(time.Second)
			v.Released, changed = &at, true
		case !wanted[k] && now.Sub(*v.Released) >= vipRest:
			changed = true
			continue
		}
		if v.Released != nil {
			if end := v.Released.Add(vipRest); next.IsZero() || end.Before(next) {
				next = end
			}
		}
		result[k] = v
		used[vipIndex(v.V4)] = true
	}
	missing := slices.DeleteFunc(slices.Clone(want), func(k mesh.ServiceKey) bool { _, ok := result[k]; return ok })
	slices.SortFunc(missing, func(a, b mesh.ServiceKey) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Hostname, b.Hostname))
	})
	for _, k := range slices.Compact(missing) {
		index, ok := freeVIP(k, &used)
		if !ok {
			unserved = append(unserved, k)
			continue
		}
		used[index], changed = true, true
		result[k] = lease{Namespace: k.Namespace, V4: vipAt(vipRange, index), V6: vipAt(vipRange6, index)}
	}
	return result, changed, next, unserved
}

// freeVIP finds an address that is free. Each service has a shard of its own, and leaves it only when that is full: so two leaders that
// do not know of each other yet, and give the same address or serve the same service, write the same ConfigMap, and one of them fails.
func freeVIP(k mesh.ServiceKey, used *[1 << 16]bool) (uint16, bool) {
	h := fnv.New32a()
	_, _ = h.Write([]byte(k.String())) // a hash never fails
	first, start := h.Sum32()%vipShards, h.Sum32()/vipShards
	const each = 1 << 16 / vipShards
	for s := range uint32(vipShards) {
		for i := range uint32(each) {
			index := uint16((start+i)%each*vipShards + (first+s)%vipShards)
			if index != 0 && index != vipCount+1 && !used[index] {
				return index, true
			}
		}
	}
	return 0, false
}

// shardOf is the number of the ConfigMap that holds an address.
func shardOf(a netip.Addr) int { return int(vipIndex(a) % vipShards) }

// shardName names a ConfigMap.
func shardName(shard int) string {
	if shard == 0 {
		return vipsName
	}
	return vipsName + "-" + strconv.Itoa(shard)
}

// isShard says whether a ConfigMap is one of those that hold addresses.
func isShard(name string) bool {
	for s := range vipShards {
		if name == shardName(s) {
			return true
		}
	}
	return false
}

// vipAt gives address number index of a range of 65536.
func vipAt(p netip.Prefix, index uint16) netip.Addr {
	b := p.Addr().AsSlice()
	binary.BigEndian.PutUint16(b[len(b)-2:], index)
	a, _ := netip.AddrFromSlice(b) // 4 or 16 bytes by construction
	return a
}

func vipIndex(a netip.Addr) uint16 {
	b := a.AsSlice()
	return binary.BigEndian.Uint16(b[len(b)-2:])
}

// decodeLease reads one entry; false if it is broken or outside of the ranges.
func decodeLease(text string) (lease, bool) {
	var v lease
	err := json.Unmarshal([]byte(text), &v)
	return v, err == nil && v.Namespace != "" && vipRange.Contains(v.V4) && v.V6 == vipAt(vipRange6, vipIndex(v.V4))
}

// encode gives the data of the ConfigMaps. A hostname is a valid key.
func (l leases) encode() (data [vipShards]map[string]string) {
	for k, v := range l {
		text, err := json.Marshal(v)
		if err != nil {
			panic(err) // strings, addresses and a time always have a form
		}
		shard := shardOf(v.V4)
		if data[shard] == nil {
			data[shard] = map[string]string{}
		}
		data[shard][k.Hostname] = string(text)
	}
	return data
}
