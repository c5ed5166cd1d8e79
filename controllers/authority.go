// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/isthmus-mesh/isthmus/internal/ca"
)

const (
	// givenCA is the Secret that an operator brings, so that several clusters share a root. Its name and keys are the usual ones.
	givenCA = "cacerts"
	// ownCA is the Secret that holds the root that we make for a cluster without the other one.
	ownCA = "isthmus-ca"
)

// Authority keeps the signer that the CA Secrets describe. A Secret that cannot be used, or that is gone, leaves the previous signer in place, and an
// Event on it says so.
type Authority struct {
	client    client.Client
	reader    client.Reader // sees what the API server has, not what the cache has
	namespace string
	domain    string // trust domain, told in the subject of a root of our own
	log       logr.Logger
	events    eventRecorder
	changed   func() // another signer; must not call back

	signer atomic.Pointer[ca.Signer]
	once   sync.Once
	loaded chan struct{}

	mu    sync.Mutex        // held by Reconcile
	files map[string][]byte // what the signer was made of
	name  string            // of the Secret that it is of
}

// eventRecorder is where Events go, as in client-go.
type eventRecorder interface {
	Eventf(regarding, related runtime.Object, eventtype, reason, action, note string, args ...any)
}

// NewAuthority makes an authority that has no signer yet.
func NewAuthority(c client.Client, reader client.Reader, namespace, trustDomain string, log logr.Logger, events eventRecorder, changed func()) *Authority {
	return &Authority{client: c, reader: reader, namespace: namespace, domain: trustDomain, log: log, events: events, changed: changed, loaded: make(chan struct{})}
}

// Signer is the present signer; nil before Loaded is closed.
func (a *Authority) Signer() *ca.Signer { return a.signer.Load() }

// Loaded is closed once there is a signer.
func (a *Authority) Loaded() <-chan struct{} { return a.loaded }

// SetupWithManager follows the CA Secrets, on every replica: each of them signs.
func (a *Authority) SetupWithManager(mgr ctrl.Manager) error {
	everywhere := false
	mine := predicate.NewPredicateFuncs(func(o client.Object) bool {
		return o.GetNamespace() == a.namespace && (o.GetName() == givenCA || o.GetName() == ownCA)
	})
	return ctrl.NewControllerManagedBy(mgr).Named("authority").
		For(&corev1.Secret{}, builder.WithPredicates(mine)).
		WithOptions(controller.Options{NeedLeaderElection: &everywhere}).
		Complete(a)
}

// Start makes sure that there is a CA before any Secret was seen to change, and tries until there is one.
func (a *Authority) Start(ctx context.Context) error {
	for wait := retryMin / 4; ; wait = min(2*wait, retryMax) {
		_, err := a.Reconcile(ctx, ctrl.Request{})
		if err == nil {
			return nil
		}
		a.log.Error(err, "no certificate authority yet")
		select {
		case <-ctx.Done():
			return nil
		case <-a.loaded: // a Secret that was mended was seen first
			return nil
		case <-time.After(wait):
		}
	}
}

// NeedLeaderElection is false: every replica signs.
func (a *Authority) NeedLeaderElection() bool { return false }

// Reconcile reads the Secrets anew. Without one it makes a root; of two replicas that try, one wins and both use its root.
func (a *Authority) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	files, name, err := a.read(ctx)
	if err != nil {
		return ctrl.Result{}, err
	}
	if a.files != nil && maps.EqualFunc(a.files, files, bytes.Equal) {
		return ctrl.Result{}, nil
	}
	signer, err := ca.NewSigner(files)
	if err != nil {
		a.tell(name, corev1.EventTypeWarning, "CannotBeUsed", "The authority cannot be used, and the one before stays in use: %v", err)
		return ctrl.Result{}, fmt.Errorf("use Secret %s/%s: %w", a.namespace, name, err)
	}
	if before := a.Signer(); before != nil && (!before.Accepts(signer) || !signer.Accepts(before)) {
		a.tell(name, corev1.EventTypeWarning, "RootChangedAtOnce",
			"Certificates of the authority before and of this one are not accepted by each other's holders: until all were renewed, connections fail. Add the new root to "+
				ca.RootKey+" first, and take the old one away last")
	}
	a.signer.Store(signer)
	a.files, a.name = files, name
	a.once.Do(func() { close(a.loaded) })
	a.log.Info("certificate authority in use", "secret", name, "ends", signer.NotAfter())
	a.changed()
	return ctrl.Result{}, nil
}

// tell makes an Event on a CA Secret.
func (a *Authority) tell(name, kind, reason, note string, args ...any) {
	secret := &corev1.Secret{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: metav1.ObjectMeta{Namespace: a.namespace, Name: name}}
	a.events.Eventf(secret, nil, kind, reason, "UseAuthority", note, args...)
}

func (a *Authority) read(ctx context.Context) (files map[string][]byte, name string, err error) {
	for _, name := range []string{givenCA, ownCA} {
		var secret corev1.Secret
		err := a.reader.Get(ctx, client.ObjectKey{Namespace: a.namespace, Name: name}, &secret)
		if err == nil {
			return secret.Data, name, nil
		}
		if !apierrors.IsNotFound(err) {
			return nil, name, fmt.Errorf("read Secret %s/%s: %w", a.namespace, name, err)
		}
		if name == a.name { // to take another root now would part those who hold certificates from those who get them
			a.tell(name, corev1.EventTypeWarning, "Gone", "The Secret of the authority is gone. It stays in use until the controllers are restarted: bring it back")
			return a.files, name, nil
		}
	}
	files, err = ca.SelfSigned(a.domain)
	if err != nil {
		return nil, ownCA, fmt.Errorf("make a root: %w", err)
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: a.namespace, Name: ownCA},
		Data:       files,
	}
	if err := a.client.Create(ctx, secret, fieldOwner); err != nil {
		return nil, ownCA, fmt.Errorf("keep the root in Secret %s/%s: %w", a.namespace, ownCA, err) // a lost race is retried and reads the winner's
	}
	return files, ownCA, nil
}
