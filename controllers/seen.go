// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"reflect"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// seen is all that is kept of an object of a cluster: what it means to us. The cache of a remote cluster holds these and no objects
// of the API, and what it holds is the very value that the store holds.
type seen struct {
	ref     world.ObjectRef
	version string         // resource version
	value   world.Object   // nil: as good as absent
	network string         // of a Namespace: what its label says
	refused *world.Refusal // why nothing of it is taken over; then value is nil
}

// GetObjectMeta has caches know the object by name. It implements metav1.ObjectMetaAccessor.
func (s *seen) GetObjectMeta() metav1.Object {
	return &metav1.ObjectMeta{Namespace: s.ref.Namespace, Name: s.ref.Name, ResourceVersion: s.version}
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
	s := &seen{
		ref:     world.ObjectRef{Kind: kind, Key: world.Key{Cluster: f.cluster, Namespace: object.GetNamespace(), Name: object.GetName()}},
		version: object.GetResourceVersion(),
	}
	if f.vetting != nil {
		s.refused = world.Vet(object)
	}
	if s.refused == nil {
		s.value = world.Reduce(f.cluster, object)
	}
	if s.value != nil {
		f.pool.Share(s.value)
		s.ref = s.value.Ref() // its strings are shared
	}
	if kind == world.KindNamespace {
		s.network = object.GetLabels()[networkLabel]
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
