// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

const (
	// vipLeaderAnnotation on a ConfigMap of addresses is the leader that wrote it last. A new leader writes its name into all of them before
	// it gives out anything: what the one before it still tries to write then meets a newer version, and fails.
	vipLeaderAnnotation = "isthmus.dev/leader"
	// vipSumAnnotation is a checksum of the data. Without it, or with another one, somebody else wrote the ConfigMap.
	vipSumAnnotation = "isthmus.dev/checksum"
)

// vipMaps are the ConfigMaps as the API server has them. One without a resource version does not exist.
type vipMaps [vipShards]*corev1.ConfigMap

// readVIPMaps asks the API server, not a cache.
func readVIPMaps(ctx context.Context, reader client.Reader, namespace string) (*vipMaps, error) {
	var there corev1.ConfigMapList
	if err := reader.List(ctx, &there, client.InNamespace(namespace)); err != nil {
		return nil, fmt.Errorf("read ConfigMaps %s: %w", vipsName, err)
	}
	byName := map[string]*corev1.ConfigMap{}
	for i := range there.Items {
		byName[there.Items[i].Name] = &there.Items[i]
	}
	m := &vipMaps{}
	for shard := range m {
		if m[shard] = byName[shardName(shard)]; m[shard] == nil {
			m[shard] = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: shardName(shard)}}
		}
	}
	return m, nil
}

// vipSum is the checksum of a ConfigMap's data.
func vipSum(data map[string]string) string {
	text, err := json.Marshal(data) // in the order of keys
	if err != nil {
		panic(err) // strings always have a form
	}
	if len(data) == 0 {
		text = nil // absent and empty are the same
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// sound says whether a leader wrote the ConfigMap as it is.
func sound(m *corev1.ConfigMap) bool {
	return m.ResourceVersion != "" && len(m.BinaryData) == 0 && m.Annotations[vipSumAnnotation] == vipSum(m.Data)
}

// claimed says whether a leader has its name in all of them.
func (m *vipMaps) claimed(leader string) bool {
	return !slices.ContainsFunc(m[:], func(o *corev1.ConfigMap) bool {
		return o.ResourceVersion == "" || o.Annotations[vipLeaderAnnotation] != leader
	})
}

// exist says whether there is any.
func (m *vipMaps) exist() bool {
	return slices.ContainsFunc(m[:], func(o *corev1.ConfigMap) bool { return o.ResourceVersion != "" })
}

// damage is what was found in ConfigMaps that nobody but us should write.
type damage struct {
	maps     []string // their names
	restored int      // entries that were lost or changed, and that this process remembers
	bad      []string // entries that mean nothing, or contradict others: left out
}

func (d damage) String() string {
	s := fmt.Sprintf("written by somebody else, or deleted: %v; %d addresses were put back", d.maps, d.restored)
	if len(d.bad) > 0 {
		s += fmt.Sprintf("; %d entries cannot be used, the first: %s", len(d.bad), d.bad[0])
	}
	return s
}

// leases puts together what all ConfigMaps hold. What a leader wrote where it belongs counts first; then what this process knew last of
// ConfigMaps that were damaged or deleted meanwhile: it is in use, and must not change; then whatever else can be read. An entry may be in
// two ConfigMaps: it is written where it belongs before it is taken from where it does not, as with the one ConfigMap that there once was.
func (m *vipMaps) leases(last leases) (leases, damage) {
	result, used := leases{}, map[netip.Addr]mesh.ServiceKey{}
	var found damage
	take := func(k mesh.ServiceKey, v lease) bool {
		if _, ok := result[k]; ok {
			return true // a copy that was, or will be, moved
		}
		if _, taken := used[v.V4]; taken {
			return false
		}
		result[k], used[v.V4] = v, k
		return true
	}
	read := func(want func(shard int, soundly, belongs bool) bool) {
		for shard, object := range m {
			ok := sound(object)
			for _, hostname := range slices.Sorted(maps.Keys(object.Data)) {
				v, good := decodeLease(object.Data[hostname])
				if !want(shard, ok, good && shardOf(v.V4) == shard) {
					continue
				}
				if !good {
					found.bad = append(found.bad, fmt.Sprintf("%q is not a lease within %s and %s", hostname, vipRange, vipRange6))
				} else if k := (mesh.ServiceKey{Namespace: v.Namespace, Hostname: hostname}); !take(k, v) {
					found.bad = append(found.bad, fmt.Sprintf("%q has the address of %q", hostname, used[v.V4].Hostname))
				}
			}
		}
	}
	read(func(_ int, soundly, belongs bool) bool { return soundly && belongs })
	for k, v := range last {
		object := m[shardOf(v.V4)]
		if sound(object) {
			continue
		}
		if now, ok := decodeLease(object.Data[k.Hostname]); !ok || now.V4 != v.V4 || now.Namespace != v.Namespace {
			if _, elsewhere := result[k]; !elsewhere {
				found.restored++
			}
		}
		take(k, v)
	}
	read(func(_ int, soundly, belongs bool) bool { return !soundly && belongs })
	read(func(_ int, _, belongs bool) bool { return !belongs })
	for _, object := range m {
		// One that no leader signed yet is of a version of ours that did not.
		_, signed := object.Annotations[vipSumAnnotation]
		if !sound(object) && (signed || object.ResourceVersion == "" && found.restored > 0) {
			found.maps = append(found.maps, object.Name)
		}
	}
	return result, found
}

// write makes the ConfigMaps hold the leases, and carry the leader's name. The first one last: entries that once were in it are by then where
// they belong. An error means that some may be written and others not; then what they hold must be read anew.
func (m *vipMaps) write(ctx context.Context, c client.Client, all leases, leader string) error {
	data := all.encode()
	for shard := vipShards - 1; shard >= 0; shard-- {
		object := m[shard]
		if sound(object) && object.Annotations[vipLeaderAnnotation] == leader && maps.Equal(data[shard], object.Data) {
			continue
		}
		object = object.DeepCopy()
		object.Data, object.BinaryData = data[shard], nil
		metav1.SetMetaDataAnnotation(&object.ObjectMeta, vipLeaderAnnotation, leader)
		metav1.SetMetaDataAnnotation(&object.ObjectMeta, vipSumAnnotation, vipSum(object.Data))
		var err error
		if object.ResourceVersion == "" {
			err = c.Create(ctx, object, fieldOwner)
		} else {
			err = c.Update(ctx, object, fieldOwner) // only as the version that was read
		}
		if err != nil {
			return fmt.Errorf("write ConfigMap %s: %w", object.Name, err)
		}
		m[shard] = object
	}
	return nil
}
