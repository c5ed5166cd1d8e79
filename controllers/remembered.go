// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// remembered is what the Secret of used roots holds: what outlives a restart, and is the same in all replicas.
type remembered struct {
	secret *corev1.Secret // as it was read; without a resource version if there was none
	roots  usedRoots      // nil if there was none
	lists  [][]byte       // revocation lists that count and are of none of the roots, in DER
	held   [][]byte       // every list that it held as it was read

	below map[string][][]byte // by root, lists that count below it: those of the root, and those that there was no room for
}

// recall reads it.
func (a *Authority) recall(ctx context.Context) (remembered, error) {
	m := remembered{secret: &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: a.namespace, Name: usedRootsName}}, below: a.below}
	switch err := a.reader.Get(ctx, client.ObjectKeyFromObject(m.secret), m.secret); {
	case apierrors.IsNotFound(err):
		return m, nil
	case err != nil:
		return m, fmt.Errorf("read Secret %s/%s: %w", a.namespace, usedRootsName, err)
	}
	m.roots, m.lists = decodeUsedRoots(m.secret.Data), decodeUsedLists(m.secret.Data)
	for _, root := range slices.Sorted(maps.Keys(m.roots)) {
		m.held = union(m.held, m.roots[root].Revoked)
	}
	m.held = union(m.held, m.lists)
	return m, nil
}

// remember writes it, if it differs from what was read. Of two replicas that try, one fails and looks again.
func (a *Authority) remember(ctx context.Context, m remembered) error {
	data := m.roots.encode()
	for _, der := range m.lists {
		data[usedListName(der)] = der
	}
	if maps.EqualFunc(m.secret.Data, data, bytes.Equal) {
		return nil
	}
	secret := m.secret.DeepCopy()
	secret.Data = data
	var err error
	if secret.ResourceVersion == "" {
		err = a.client.Create(ctx, secret, fieldOwner)
	} else {
		err = a.client.Update(ctx, secret, fieldOwner)
	}
	if err != nil {
		return fmt.Errorf("remember roots in Secret %s/%s: %w", a.namespace, usedRootsName, err)
	}
	return nil
}
