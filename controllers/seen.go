// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"crypto/sha256"
	"encoding/hex"
	"reflect"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// seen is all that is kept of an object of a cluster: what it means to us. The cache of a remote cluster holds these and no objects
// of the API, and what it holds is the very value that the store holds. There is one for each object, so it holds little: 48 bytes for most.
type seen struct {
	value   world.Object // nil: as good as absent
	version string       // resource version
	rare    *seenRare    // nil for most
}

// seenRare is what there is to know of few objects beside their value: those that have none, and namespaces that name a network.
type seenRare struct {
	ref     world.ObjectRef // of what has no value
	network string          // of a Namespace: what its label says
	refused *world.Refusal  // why nothing of it is taken over; then there is no value
}

func (s *seen) ref() world.ObjectRef {
	if s.value != nil {
		return s.value.Ref()
	}
	return s.rare.ref
}

func (s *seen) network() string {
	if s.rare == nil {
		return ""
	}
	return s.rare.network
}

func (s *seen) refused() *world.Refusal {
	if s.rare == nil {
		return nil
	}
	return s.rare.refused
}

// GetObjectMeta has caches know the object by name. It implements metav1.ObjectMetaAccessor.
func (s *seen) GetObjectMeta() metav1.Object {
	ref := s.ref()
	return &metav1.ObjectMeta{Namespace: ref.Namespace, Name: ref.Name, ResourceVersion: s.version}
}

// longestKept is how long a name may be, in bytes, that is kept as it is though its object is refused: the longest one of Kubernetes has as many.
const longestKept = 253

// shortened gives a text of a refused object, which may have any length, as one that can be told from others and is short.
func shortened(text string) string {
	if len(text) <= longestKept {
		return text
	}
	sum := sha256.Sum256([]byte(text))
	return "~" + hex.EncodeToString(sum[:])
}

// see gives what is kept of something that a cache told; false if that is no object of a kind that the feed reads.
func (f *Feed) see(in any) (*seen, bool) {
	if s, ok := in.(*seen); ok {
		return s, true
	}
	object, ok := in.(client.Object)
	if !ok {
		return nil, false
	}
	kind, ok := f.kindOf[reflect.TypeOf(object)]
	if !ok {
		return nil, false
	}
	s := &seen{version: object.GetResourceVersion()}
	var rare seenRare
	if f.vetting != nil {
		rare.refused = world.Vet(object)
	}
	if rare.refused == nil {
		s.value = world.Reduce(f.cluster, object)
	} else {
		s.version = shortened(s.version)
	}
	if kind == world.KindNamespace {
		rare.network = object.GetLabels()[networkLabel]
	}
	if s.value != nil {
		f.pool.Share(s.value)
	} else {
		rare.ref = world.ObjectRef{Kind: kind, Key: world.Key{Cluster: f.cluster, Namespace: shortened(object.GetNamespace()), Name: shortened(object.GetName())}}
	}
	if rare != (seenRare{}) {
		s.rare = &rare
	}
	return s, true
}

// shrink is the transformation of a cache that nobody but the feed reads.
func (f *Feed) shrink(in any) (any, error) {
	if s, ok := f.see(in); ok {
		return s, nil
	}
	return in, nil
}
