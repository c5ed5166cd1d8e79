// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/isthmus-mesh/isthmus/internal/ca"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// trustDomainLabel is on a ConfigMap of the system namespace that holds the roots of another trust domain, and says which.
const trustDomainLabel = "isthmus.dev/trust-domain"

// trustKeys are where such a ConfigMap holds them: the key of the usual ConfigMaps of roots, and that of Kubernetes' own. Both count.
var trustKeys = []string{rootCertKey, "ca.crt"}

// Trust tells proxies and gateways which roots vouch for which trust domain: the authority's for our own, and those of labelled ConfigMaps for others. It stands
// before the discovery server, because gateways let in identities of the domains that have roots. What it tells counts at the next handshake.
type Trust struct {
	publisher // where it passes on what it is told

	reader    client.Reader
	namespace string
	domain    string   // our own
	aliases   []string // other names of it
	signer    func() *ca.Signer
	log       logr.Logger
	events    eventRecorder

	changed func() // told that other domains have roots now, with mu held; nil: nobody
	once    sync.Once
	loaded  chan struct{}

	mu       sync.Mutex
	given    map[string]givenRoots // by ConfigMap, the last that could be used
	told     map[string]*mesh.Bundle
	gateways map[mesh.GatewayKey]*mesh.Gateway // as they were translated
}

// NewTrust makes one that has told nothing. signer gives the authority's signer, or nil if there is none yet.
func NewTrust(to publisher, reader client.Reader, namespace, domain string, aliases []string, signer func() *ca.Signer, log logr.Logger, events eventRecorder) *Trust {
	return &Trust{
		publisher: to, reader: reader, namespace: namespace, domain: domain, aliases: aliases, signer: signer, log: log, events: events, loaded: make(chan struct{}),
		given: map[string]givenRoots{}, told: map[string]*mesh.Bundle{}, gateways: map[mesh.GatewayKey]*mesh.Gateway{},
	}
}

// Loaded is closed once the roots of all domains were told as they were at start.
func (t *Trust) Loaded() <-chan struct{} { return t.loaded }

// Knows says whether there are roots for a domain.
func (t *Trust) Knows(domain string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.told[domain] != nil
}

// SetupWithManager follows the ConfigMaps, on every replica: each of them tells.
func (t *Trust) SetupWithManager(mgr ctrl.Manager, own *inbox) error {
	everywhere := false
	labelled := func(o client.Object) bool {
		_, ok := o.GetLabels()[trustDomainLabel]
		return ok && o.GetNamespace() == t.namespace
	}
	mine := predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool { return labelled(e.Object) },
		DeleteFunc: func(e event.DeleteEvent) bool { return labelled(e.Object) },
		UpdateFunc: func(e event.UpdateEvent) bool { return labelled(e.ObjectOld) || labelled(e.ObjectNew) }, // it may lose the label
	}
	return ctrl.NewControllerManagedBy(mgr).Named("trust").
		For(&corev1.ConfigMap{}, builder.WithPredicates(mine)).
		WatchesRawSource(own.source()).
		WithOptions(controller.Options{NeedLeaderElection: &everywhere}).
		Complete(t)
}

// Reconcile reads all of it anew and tells what is different.
func (t *Trust) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	signer := t.signer()
	if signer == nil {
		return ctrl.Result{}, nil // its coming is told
	}
	var list corev1.ConfigMapList
	if err := t.reader.List(ctx, &list, client.InNamespace(t.namespace), client.HasLabels{trustDomainLabel}); err != nil {
		return ctrl.Result{}, fmt.Errorf("list the roots of other trust domains: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	given, refused := chooseRoots(list.Items, t.given, t.domain, t.ownRoots(signer), time.Now())
	for i := range list.Items {
		c := &list.Items[i]
		if why := refused[c.Name]; why != nil {
			t.warn(c, "CannotBeUsed", "The roots cannot be used, and those before stay in use", why)
		}
		if why := given[c.Name].refused; why != nil {
			t.warn(c, "RevocationRefused", "Revocation lists do not count, so that those which counted before go on to; the others are in use all the same", why)
		}
	}
	t.given = given
	t.tell(signer)
	t.once.Do(func() { close(t.loaded) })
	return ctrl.Result{}, nil
}

// warn makes an Event on a ConfigMap about what cannot be used of it.
func (t *Trust) warn(c *corev1.ConfigMap, reason, what string, why error) {
	about := referenceTo("v1", "ConfigMap", c.Namespace, c.Name)
	about.UID = c.UID
	t.events.Eventf(about, nil, corev1.EventTypeWarning, reason, "UseRoots", "%s", note("%s: %s", what, strings.ReplaceAll(why.Error(), "\n", "; ")))
	t.log.Info("what a ConfigMap tells of a trust domain cannot be used", "configMap", c.Name, "event", reason, "reason", why.Error())
}

// tell publishes what is different from what was told. It needs mu.
func (t *Trust) tell(signer *ca.Signer) {
	want := map[string]*mesh.Bundle{}
	for domain, own := range t.ownRoots(signer) {
		want[domain] = &mesh.Bundle{TrustDomain: domain, Roots: own.roots, Revoked: own.revoked}
	}
	for _, name := range slices.Sorted(maps.Keys(t.given)) {
		g := t.given[name]
		var before givenRoots
		if b := want[g.domain]; b != nil {
			before = givenRoots{roots: b.Roots, revoked: b.Revoked}
		}
		all := before.with(g)
		want[g.domain] = &mesh.Bundle{TrustDomain: g.domain, Roots: all.roots, Revoked: all.revoked}
	}
	for _, alias := range t.aliases {
		want[alias].AliasOf = t.domain
	}
	d := mesh.Delta{Bundles: map[string]*mesh.Bundle{}, Gateways: map[mesh.GatewayKey]*mesh.Gateway{}}
	for domain, b := range want {
		if !reflect.DeepEqual(t.told[domain], b) {
			d.Bundles[domain] = b
		}
	}
	for domain := range t.told {
		if want[domain] == nil {
			d.Bundles[domain] = nil
		}
	}
	if len(d.Bundles) == 0 {
		return
	}
	t.told = want
	for key, g := range t.gateways {
		d.Gateways[key] = t.trusting(g)
	}
	t.publisher.Update(d)
	if t.changed != nil {
		t.changed()
	}
	t.log.Info("roots told", "changed", slices.Sorted(maps.Keys(d.Bundles)), "domains", len(want))
}

// ownRoots are what the authority gives for our trust domain under each of its names. An alias may have others beside.
func (t *Trust) ownRoots(signer *ca.Signer) map[string]givenRoots {
	out := map[string]givenRoots{}
	for _, domain := range append([]string{t.domain}, t.aliases...) {
		out[domain] = givenRoots{domain: domain, roots: signer.RootsDER(), revoked: signer.RevokedDER()}
	}
	return out
}

// Update passes on a delta; its gateways let in identities of all domains that have roots.
func (t *Trust) Update(d mesh.Delta) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(d.Gateways) > 0 {
		gateways := make(map[mesh.GatewayKey]*mesh.Gateway, len(d.Gateways))
		for key, g := range d.Gateways {
			if g == nil {
				delete(t.gateways, key)
				gateways[key] = nil
				continue
			}
			t.gateways[key] = g
			gateways[key] = t.trusting(g)
		}
		d.Gateways = gateways
	}
	t.publisher.Update(d)
}

// trusting gives the configuration of a gateway with the domains that have roots beside its own. It needs mu.
func (t *Trust) trusting(g *mesh.Gateway) *mesh.Gateway {
	domains := slices.Clone(g.TrustDomains)
	for domain := range t.told {
		if !slices.Contains(domains, domain) {
			domains = append(domains, domain)
		}
	}
	slices.Sort(domains)
	out := *g
	out.TrustDomains = domains
	return &out
}
