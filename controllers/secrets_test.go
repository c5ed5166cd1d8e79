// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"testing"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/internal/world"
)

// What a watch hears while its Secret is not wanted is lost to the store, so it must not count as having been read when it is wanted again.
func TestSecretWantedAgain(t *testing.T) {
	store := world.NewStore()
	s := NewSecrets(nil, store, logr.Discard())
	k := world.ObjectRef{Kind: world.KindSecret, Key: world.Key{Cluster: "near", Namespace: "ns", Name: "cert"}}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: k.Namespace, Name: k.Name}}
	there := func() bool {
		o, ok := store.Get(k)
		return ok && !o.(*world.Secret).Absent
	}
	s.Want(map[world.ObjectRef]bool{k: true})
	first := s.want[k]
	if s.tell(k, first, secret); !there() {
		t.Fatal("a wanted Secret was not taken")
	}
	s.Want(map[world.ObjectRef]bool{k: true})
	if s.want[k] != first || !there() {
		t.Error("a wish that stands was taken for another one")
	}
	s.Want(map[world.ObjectRef]bool{k: false})
	if there() {
		t.Error("what nobody wants is kept")
	}
	s.tell(k, first, secret) // lost
	s.Want(map[world.ObjectRef]bool{k: true})
	if _, unread := s.unread[k]; s.want[k] == first || !unread {
		t.Error("it counts as read")
	}
	if s.tell(k, first, secret); there() {
		t.Error("the watch of an earlier wish was believed")
	}
	if s.tell(k, s.want[k], secret); !there() {
		t.Error("wanted again, and not taken")
	}
	if s.giveUp(k, s.want[k]) || !there() {
		t.Error("what was read is given up")
	}
	absent := func() bool {
		o, ok := store.Get(k)
		return ok && o.(*world.Secret).Absent
	}
	if s.tell(k, s.want[k], nil); !absent() {
		t.Error("it was deleted, and nobody says so")
	}
	s.Want(map[world.ObjectRef]bool{k: false})
	s.Want(map[world.ObjectRef]bool{k: true})
	if absent() {
		t.Error("nobody has looked since it is wanted again, and it counts as absent")
	}
	if !s.giveUp(k, s.want[k]) || !absent() {
		t.Error("it cannot be read, and does not count as absent")
	}
}
