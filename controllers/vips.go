// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"hash/fnv"
	"net/netip"
	"strconv"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

const (
	// vipsName is the first of the ConfigMaps that hold the addresses of services that exist in other clusters only; shardName names
	// the others.
	vipsName = "isthmus-vips"
	// vipShards is how many there are. A ConfigMap holds at most 1 MiB, and all 65534 addresses take up to 25 MB: 372 bytes each, with the
	// longest names (63 for the name, and twice for the namespace), the clusters and the time of release. In 32 of them it is 0.8 MB each.
	vipShards = 32
	// vipRest is how long an address rests after its service is gone: no client's DNS answer or connection is that old.
	vipRest = time.Hour
)

// vipRange and vipRange6 are where the addresses come from.
var vipRange, vipRange6 = world.ReservedV4, world.ReservedV6

// vipMost is how many addresses one cluster's services have at most, with those that rest: a quarter of all, and three times as many services as are taken from a
// cluster whose limits are not raised.
const vipMost = 1 << 14

// vipCount is how many addresses there are: those of a /16 but for its first and last.
const vipCount = 1<<16 - 2

// lease is one entry of a ConfigMap, under the service's hostname.
type lease struct {
	Namespace string     `json:"namespace"`
	V4        netip.Addr `json:"v4"`
	V6        netip.Addr `json:"v6"`
	// Of says which cluster has it, see clusterMark; empty in what versions wrote that did not say.
	Of string `json:"of,omitempty"`
	// By says which clusters have, or may still have, the service, see exporters; empty in what versions wrote that did not say.
	By string `json:"by,omitempty"`
	// Released is when the service went away; nil while it is there.
	Released *time.Time `json:"released,omitempty"`
}

// leases are all addresses given out. It is a value: giving makes a new one.
type leases map[mesh.ServiceKey]lease

// clusterMark stands for a cluster in leases, where its name may be too long: 96 bits of a SHA-256, so short that a lease stays small, and so long that no two clusters share one.
func clusterMark(c world.Cluster) string {
	sum := sha256.Sum256([]byte(c))
	return base64.RawURLEncoding.EncodeToString(sum[:12])
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
