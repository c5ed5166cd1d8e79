// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
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
	changed   func()        // another signer; must not call back
	longest   time.Duration // how long a certificate may last that is issued here
	used      *prometheus.GaugeVec
	ends      prometheus.Gauge

	listsRefused prometheus.Gauge
	names        []string // of the server that its certificates prove, besides identities

	signer atomic.Pointer[ca.Signer]
	once   sync.Once
	loaded chan struct{}

	mu        sync.Mutex          // held by Reconcile
	files     map[string][]byte   // what the signer was made of
	name      string              // of the Secret that it is of
	remove    bool                // roots that are not in it are to go at once
	kept      string              // said of roots that are not in it and are trusted all the same
	unrevoked string              // said of revocation lists that do not count
	doubted   string              // said of keys that not every peer can verify with
	again     time.Time           // when one of those is needed no longer; zero if there is none
	below     map[string][][]byte // revocation lists that count, by the root that they are below
	unsaved   bool                // what must be remembered of roots could not be written
	unusable  bool                // the Secret could not be used when it was read last, but for its revocation lists
	warned    struct {
		of *x509.Certificate // that ends soon
		at time.Time         // when that was told
	}
}

// eventRecorder is where Events go, as in client-go.
type eventRecorder interface {
	Eventf(regarding, related runtime.Object, eventtype, reason, action, note string, args ...any)
}

// NewAuthority makes an authority that has no signer yet.
func NewAuthority(c client.Client, reader client.Reader, namespace, trustDomain string, log logr.Logger, events eventRecorder, changed func()) *Authority {
	return &Authority{longest: ca.DefaultLifetime, used: newUsedUntil(), ends: newIssuerEnd(), listsRefused: newListsRefused(), client: c, reader: reader, namespace: namespace, domain: trustDomain, log: log, events: events, changed: changed, loaded: make(chan struct{})}
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
	files, name, remove, err := a.read(ctx)
	if err != nil {
		return ctrl.Result{}, err
	}
	now := time.Now()
	same := a.files != nil && maps.EqualFunc(a.files, files, bytes.Equal) && a.remove == remove
	if due := !a.again.IsZero() && !now.Before(a.again); same && !due && !a.unsaved && !a.unusable {
		return a.untilThen(now), nil
	}
	signer, err := ca.NewSigner(files)
	if err == nil {
		err = signer.Proves(a.domain, a.names...)
	}
	if err != nil {
		a.tell(name, corev1.EventTypeWarning, "CannotBeUsed", "The authority cannot be used, and the one before stays in use: %v", err)
		a.unusable = true
		return ctrl.Result{}, errors.Join(fmt.Errorf("use Secret %s/%s: %w", a.namespace, name, err), a.revokeBeside(ctx, name, files[ca.RevokedKey]))
	}
	m, err := a.recall(ctx)
	if err != nil {
		return ctrl.Result{}, err
	}
	m.roots = m.roots.issuing(signer, max(a.longest, ca.DefaultLifetime), now, remove)
	a.showUsed(m.roots)
	missing := m.roots.missing(signer)
	signer = a.revoke(name, a.keep(name, signer, missing), files[ca.RevokedKey], &m, missing)
	if before := a.Signer(); before != nil && (!before.Accepts(signer) || !signer.Accepts(before)) {
		a.tell(name, corev1.EventTypeWarning, "RootChangedAtOnce",
			"Certificates of the authority before and of this one are not accepted by each other's holders: until all were renewed, connections fail. Add the new root to "+
				ca.RootKey+" first, and take the old one away last")
	}
	a.signer.Store(signer)
	a.files, a.name, a.remove, a.unusable = files, name, remove, false
	a.once.Do(func() { close(a.loaded) })
	a.doubt()
	a.ends.Set(float64(signer.NotAfter().Unix()))
	a.log.Info("certificate authority in use", "secret", name, "ends", signer.NotAfter())
	a.changed()
	err = a.remember(ctx, m)
	a.unsaved = err != nil
	return a.untilThen(now), err
}

// keep is a signer with the roots that are still needed, and an Event that says until when, once.
func (a *Authority) keep(name string, signer *ca.Signer, needed []usedRoot) *ca.Signer {
	a.again = time.Time{}
	if len(needed) == 0 {
		a.kept = ""
		return signer
	}
	a.again = *needed[0].Until
	roots := make([]*x509.Certificate, 0, len(needed))
	for _, u := range needed {
		roots = append(roots, u.parsed)
	}
	if said := describeRoots(needed); said != a.kept {
		a.kept = said
		a.log.Info("roots stay trusted that the authority's Secret does not hold any more, for certificates below them may be in use", "secret", name, "roots", said)
		a.tell(name, corev1.EventTypeWarning, "RootKept", "%s", note("Roots are not in the Secret any more, but certificates below them may be in use, so that they stay trusted: %s. To have them go at once, annotate the Secret %s=%s",
			said, removeRootsAnnotation, removeRootsNow))
	}
	return signer.Keeping(roots)
}

// untilThen has Reconcile look again when a root is needed no longer, or the authority's end is to be told.
func (a *Authority) untilThen(now time.Time) ctrl.Result {
	next := a.warn(now)
	if !a.again.IsZero() && a.again.Before(next) {
		next = a.again
	}
	return ctrl.Result{RequeueAfter: max(next.Sub(now), time.Second)}
}

// tell makes an Event on a CA Secret.
func (a *Authority) tell(name, kind, reason, note string, args ...any) {
	secret := &corev1.Secret{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: metav1.ObjectMeta{Namespace: a.namespace, Name: name}}
	a.events.Eventf(secret, nil, kind, reason, "UseAuthority", note, args...)
}

// read gives what an authority is made of, the Secret that holds it, and whether roots that are not in that one are to go at once.
func (a *Authority) read(ctx context.Context) (files map[string][]byte, name string, remove bool, err error) {
	for _, name := range []string{givenCA, ownCA} {
		var secret corev1.Secret
		err := a.reader.Get(ctx, client.ObjectKey{Namespace: a.namespace, Name: name}, &secret)
		if err == nil {
			return secret.Data, name, secret.Annotations[removeRootsAnnotation] == removeRootsNow, nil
		}
		if !apierrors.IsNotFound(err) {
			return nil, name, false, fmt.Errorf("read Secret %s/%s: %w", a.namespace, name, err)
		}
		if name == a.name { // to take another root now would part those who hold certificates from those who get them
			a.tell(name, corev1.EventTypeWarning, "Gone", "The Secret of the authority is gone. It stays in use until the controllers are restarted: bring it back")
			return a.files, name, a.remove, nil
		}
	}
	if err := a.begins(ctx); err != nil {
		return nil, ownCA, false, err
	}
	files, err = ca.SelfSigned(a.domain)
	if err != nil {
		return nil, ownCA, false, fmt.Errorf("make a root: %w", err)
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: a.namespace, Name: ownCA},
		Data:       files,
	}
	if err := a.client.Create(ctx, secret, fieldOwner); err != nil {
		return nil, ownCA, false, fmt.Errorf("keep the root in Secret %s/%s: %w", a.namespace, ownCA, err) // a lost race is retried and reads the winner's
	}
	return files, ownCA, false, nil
}

// begins gives an error if there was an authority whose certificates may be in use. A root that we made in its place would part those who hold these from those who get others, and that for a Secret that was
// deleted by mistake.
func (a *Authority) begins(ctx context.Context) error {
	m, err := a.recall(ctx)
	if err != nil {
		return err
	}
	var alive []usedRoot
	for _, u := range m.roots {
		if u.Until == nil || time.Now().Before(*u.Until) {
			alive = append(alive, u)
		}
	}
	if len(alive) == 0 {
		return nil
	}
	why := note("There is neither this Secret nor %s, and certificates may be in use below a root that one of them had, such as %q. No other root is made meanwhile: bring the Secret back, or delete the Secret %s to begin with another root",
		ownCA, alive[0].parsed.Subject, usedRootsName)
	a.tell(givenCA, corev1.EventTypeWarning, "Gone", "%s", why)
	return errors.New(why)
}
