// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"reflect"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// laden is metadata with all that nobody reads, and one annotation that somebody may.
func laden(read string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: "shop", Name: "cart", ResourceVersion: "7", Labels: map[string]string{"app": "cart"},
		ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubelet"}},
		Annotations:   map[string]string{"checksum/config": "0123", read: "enabled"},
	}
}

// TestOwnCacheKeepsReducedObjects looks at what the cache of our own cluster keeps: it must mean the same and hold less.
func TestOwnCacheKeepsReducedObjects(t *testing.T) {
	for _, tc := range []struct {
		object client.Object
		kept   []string // annotations
	}{
		{&corev1.Pod{ObjectMeta: laden(world.AnnotationRedirection), Spec: corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{Name: "app"}}}}, []string{world.AnnotationRedirection}},
		{&corev1.Namespace{ObjectMeta: laden(world.AnnotationDistribution)}, []string{world.AnnotationDistribution}},
		{&corev1.Node{ObjectMeta: laden("other")}, nil},
		{&discoveryv1.EndpointSlice{ObjectMeta: laden("other")}, nil},
		// We write its status, with the annotations that it has.
		{&corev1.Service{ObjectMeta: laden(world.AnnotationDistribution)}, []string{"checksum/config", world.AnnotationDistribution}},
	} {
		want := world.Reduce("east", tc.object.DeepCopyObject())
		out, err := reduceForCache(tc.object)
		if err != nil {
			t.Fatal(err)
		}
		object := out.(client.Object)
		if got := world.Reduce("east", object); !reflect.DeepEqual(got, want) {
			t.Errorf("%T means %+v, want %+v", object, got, want)
		}
		if object.GetManagedFields() != nil {
			t.Errorf("%T keeps managed fields", object)
		}
		if len(object.GetAnnotations()) != len(tc.kept) {
			t.Errorf("%T keeps annotations %v, want %v", object, object.GetAnnotations(), tc.kept)
		}
		for _, name := range tc.kept {
			if object.GetAnnotations()[name] == "" {
				t.Errorf("%T lost the annotation %s", object, name)
			}
		}
	}
}

// TestRemoteCacheKeepsNoObjects looks at what the cache of a remote cluster keeps of each kind: names and what they mean.
func TestRemoteCacheKeepsNoObjects(t *testing.T) {
	f := NewFeed(world.NewStore(), "west", remoteKinds(), "isthmus-system")
	for _, w := range remoteKinds() {
		object := w.object()
		want := "cart"
		if !slices.Contains([]world.Kind{world.KindNamespace, world.KindNode, world.KindGatewayClass, world.KindServiceScope}, w.kind) {
			object.SetNamespace("shop")
			want = "shop/cart"
		}
		object.SetName("cart")
		object.SetResourceVersion("7")
		out, err := f.shrink(object)
		if err != nil {
			t.Fatal(err)
		}
		s, ok := out.(*seen)
		if !ok {
			t.Errorf("%s: the cache keeps a %T", w.kind, out)
			continue
		}
		if again, err := f.shrink(s); err != nil || again != out {
			t.Errorf("%s: shrunk twice: %v, %v", w.kind, again, err)
		}
		key, err := toolscache.MetaNamespaceKeyFunc(s)
		if err != nil || key != want || s.ref().Kind != w.kind || s.ref().Cluster != "west" {
			t.Errorf("%s: known as %q and %v, %v", w.kind, key, s.ref(), err)
		}
		if accessor, err := meta.Accessor(s); err != nil || accessor.GetResourceVersion() != "7" {
			t.Errorf("%s: its version is lost, %v", w.kind, err)
		}
	}
}
