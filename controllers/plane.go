// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"github.com/isthmus-mesh/isthmus/internal/ca"
	"github.com/isthmus-mesh/isthmus/internal/world"
	"github.com/isthmus-mesh/isthmus/internal/xds"
)

// plane is the composition: everything that runs, and what is ready.
type plane struct {
	options   Options
	store     *world.Store
	authority *Authority
	trust     *Trust
	pipeline  *Pipeline
	remotes   *Remotes
	wishes    *RemoteReconciler
	vips      *VIPReconciler
	shortage  *vipShortage
	overlays  *Overlays
	events    events.EventRecorder
	secrets   *Secrets
	local     chan struct{} // closed once the local cluster was read
	inboxes   inboxes
}

func assemble(ctx context.Context, mgr ctrl.Manager, office *office, o Options, uid types.UID) (*plane, error) {
	c := mgr.GetClient()
	p := &plane{
		options: o, store: world.NewStore(), local: make(chan struct{}),
		inboxes: newInboxes(),
	}
	callers, err := NewCallers(ctx, mgr, o.World, o.Proxies, o.Registerer)
	if err != nil {
		return nil, err
	}
	events := mgr.GetEventRecorder(serviceName)
	office.news.set(events)
	discovery := xds.NewServer(xds.ServerOptions{
		Log: o.Log.WithName("xds"), Authenticate: callers.Authenticate, Rejected: newRejections(o.World, events, o.Proxies).tell, Registerer: o.Registerer,
		Proxies: func(c xds.Caller) bool { return slices.Contains(o.Proxies, c.Namespace+"/"+c.ServiceAccount) },
	})
	p.authority = NewAuthority(c, mgr.GetAPIReader(), o.World.SystemNamespace, o.World.TrustDomain, o.Log.WithName("ca"), events, p.rootChanged)
	p.authority.longest = cmp.Or(o.MaxCertificateLifetime, ca.DefaultLifetime)
	p.authority.names = p.serverNames()
	certificates := ca.NewService(ca.ServiceOptions{
		Log: o.Log.WithName("ca"), Signer: p.authority.Signer, Authorize: callers.Authorize, MaxLifetime: o.MaxCertificateLifetime, Registerer: o.Registerer,
	})
	p.remotes = NewRemotes(o.Log.WithName("remotes"), scheme, p.store, o.World, uid, p.remoteChanged)
	p.remotes.metrics = newRemoteMetrics(o.Registerer)
	p.remotes.room = cmp.Or(o.RemoteRoom, DefaultRoom)
	if o.Registerer != nil {
		o.Registerer.MustRegister(p.authority.used, p.authority.ends, p.authority.listsRefused, newRemoteStates(p.remotes))
	}
	p.trust = NewTrust(discovery, mgr.GetCache(), o.World.SystemNamespace, o.World.TrustDomain, o.World.TrustDomainAliases, p.authority.Signer, o.Log.WithName("trust"), events)
	p.overlays, p.events = NewOverlays(o.Log.WithName("overlays"), mgr, p.store, o.World.LocalCluster), events
	p.trust.changed = func() { p.inboxes.wishes.add(types.NamespacedName{Name: "all"}) } // whose status says which domains have no roots
	p.pipeline = NewPipeline(p.store, o.World, p.trust, p.known, p.translated, o.Log.WithName("pipeline"))
	p.pipeline.deadline = cmp.Or(o.deadline, bootDeadline)
	clientset, err := kubernetes.NewForConfig(mgr.GetConfig())
	if err != nil {
		return nil, fmt.Errorf("make a client for Secrets: %w", err)
	}
	p.secrets = NewSecrets(clientset, p.store, o.Log.WithName("secrets"))
	p.pipeline.reads, p.pipeline.near = true, p.near
	p.wishes = &RemoteReconciler{
		client: c, namespace: o.World.SystemNamespace, local: o.World.LocalCluster, remotes: p.remotes, store: p.store,
		leading: mgr.Elected(), statuses: p.inboxes.remotes, log: o.Log.WithName("remotes"), first: make(chan struct{}),
	}
	p.shortage = &vipShortage{metrics: p.remotes.metrics, notify: p.remoteChanged}
	p.vips = &VIPReconciler{
		client: c, reader: mgr.GetAPIReader(), namespace: o.World.SystemNamespace, store: p.store, want: p.pipeline.WantVIPs,
		leading: mgr.Elected(), complete: p.pipeline.Ready(), heard: p.remotes.Heard, pace: vipPace, budget: newVIPBudget(), short: p.shortage.set, named: p.wishes.Named, identity: office.identity, leads: office.leads(mgr.GetAPIReader()),
		events: events, log: o.Log.WithName("vips"), loaded: make(chan struct{}),
	}
	return p, errors.Join(p.addRunnables(mgr, discovery, certificates), p.addControllers(mgr))
}

func (p *plane) addRunnables(mgr ctrl.Manager, services ...xds.Service) error {
	o := p.options
	return errors.Join(
		mgr.Add(everywhere(func(ctx context.Context) error { return p.readLocal(ctx, mgr) })),
		mgr.Add(p.remotes),
		mgr.Add(p.authority),
		mgr.Add(p.overlays),
		mgr.Add(p.pipeline),
		mgr.Add(p.secrets),
		mgr.Add(everywhere(func(ctx context.Context) error { return p.serve(ctx, services) })),
		mgr.Add(everywhere(func(ctx context.Context) error { return p.wakeWriters(ctx, mgr.Elected()) })),
		mgr.Add(everywhere(p.sayMissing)),
		mgr.Add(&defaults{client: mgr.GetClient(), reader: mgr.GetAPIReader(), namespace: o.World.SystemNamespace, log: o.Log.WithName("defaults")}),
	)
}

func (p *plane) addControllers(mgr ctrl.Manager) error {
	c, o := mgr.GetClient(), p.options
	gateways := &GatewayReconciler{
		client: c, plan: p.pipeline.Plan, reader: mgr.GetAPIReader(), events: p.events, obstacles: &obstacles{}, known: p.pipeline.Home(), changed: p.obstructed,
		settings: ProvisionSettings{
			Image: o.GatewayImage, Traces: o.GatewayTraces, Controller: net.JoinHostPort(serviceName+"."+o.World.SystemNamespace+".svc", "15012"), Config: o.World,
		},
	}
	roots := &RootReconciler{client: c, signer: p.authority.Signer, wanted: p.needsRoot}
	parents := parentReader{mgr.GetAPIReader()}
	optional := func(kind client.Object, w writer, news *inbox) error {
		return whenServed(mgr, o.Log.WithName("controllers"), kind, w, news, nil)
	}
	mayReadMeshes := func() error { return mayReadMeshes(mgr.GetAPIReader()) }
	return errors.Join(
		p.authority.SetupWithManager(mgr),
		p.trust.SetupWithManager(mgr, p.inboxes.trust),
		p.wishes.SetupWithManager(mgr, p.inboxes.wishes),
		p.vips.SetupWithManager(mgr, p.inboxes.vips),
		optional(&gatewayv1.Gateway{}, gateways, p.inboxes.plans),
		optional(&gatewayv1.Gateway{}, newAutomaticWaypoints(c, p.pipeline.WantsWaypoint, p.pipeline.Ready()), p.inboxes.waypoints),
		roots.SetupWithManager(mgr, p.inboxes.roots),
		optional(&gatewayv1.GatewayClass{}, &gatewayClassStatus{c, mgr.GetAPIReader()}, newInbox()),
		optional(&gatewayv1.Gateway{}, &classKeeper{c}, newInbox()),
		whenServed(mgr, o.Log.WithName("controllers"), &gatewayxv1alpha1.XMesh{}, &meshStatus{c}, newInbox(), mayReadMeshes),
		optional(&gatewayv1.Gateway{}, newGatewayStatus(c, p.pipeline, gateways.obstacles, p.pipeline.Home()), p.inboxes.gateways),
		optional(&gatewayv1.ListenerSet{}, newListenerSetStatus(c, p.pipeline, gateways.obstacles, p.pipeline.Ready()), p.inboxes.sets),
		optional(&gatewayv1.HTTPRoute{}, newHTTPRouteStatus(c, p.pipeline, parents, p.pipeline.Ready()), p.inboxes.routes),
		optional(&gatewayv1.GRPCRoute{}, newGRPCRouteStatus(c, p.pipeline, parents, p.pipeline.Ready()), p.inboxes.grpcRoutes),
		optional(&gatewayv1.TLSRoute{}, newTLSRouteStatus(c, p.pipeline, parents, p.pipeline.Ready()), p.inboxes.tlsRoutes),
		optional(&gatewayv1.TCPRoute{}, newTCPRouteStatus(c, p.pipeline, parents, p.pipeline.Ready()), p.inboxes.tcpRoutes),
		optional(&gatewayv1.UDPRoute{}, newUDPRouteStatus(c, p.pipeline, parents, p.pipeline.Ready()), p.inboxes.udpRoutes),
		optional(&gatewayv1.BackendTLSPolicy{}, newBackendTLSStatus(c, p.pipeline, p.pipeline.Ready()), p.inboxes.backendTLS),
		newServiceScopeStatus(c, p.pipeline).SetupWithManager(mgr, p.inboxes.scopes),
		newServiceStatus(c, p.pipeline).SetupWithManager(mgr, p.inboxes.services),
		(&policyStatusWriter{world.KindAuthorizationPolicy, c, p.pipeline}).SetupWithManager(mgr, p.inboxes.policies),
		(&policyStatusWriter{world.KindPeerAuthentication, c, p.pipeline}).SetupWithManager(mgr, p.inboxes.peers),
		newRemoteClusterStatus(c, p.pipeline, p.remotes, p.wishes, p.trust.Knows, p.shortage.of).SetupWithManager(mgr, p.inboxes.remotes),
	)
}

// known says whether our own cluster as it was at start, with the wishes and addresses that it holds, is in the store, and which other
// clusters are not.
func (p *plane) known() (own bool, unheard []world.Cluster) {
	if len(p.missing()) > 0 {
		return false, nil
	}
	return true, p.remotes.Unheard()
}

// near says whether the objects of our own cluster as they were at start are in the store. Gateways need no more: those that there are go on, and are put right, while there is no authority.
func (p *plane) near() bool { return isClosed(p.local) && isClosed(p.overlays.Loaded()) }

// missing are the parts of our own cluster that were not read yet, by what they are.
func (p *plane) missing() (out []string) {
	for _, part := range []struct {
		what string
		read <-chan struct{}
	}{
		{"objects of the cluster", p.local},
		{"links to other clusters", p.wishes.Planned()},
		{"addresses of services", p.vips.Loaded()},
		{"roots of trust domains, which need a certificate authority", p.trust.Loaded()},
		{"parameters of Gateways", p.overlays.Loaded()},
	} {
		if !isClosed(part.read) {
			out = append(out, part.what)
		}
	}
	return out
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// sayMissing says once what proxies wait for when our own cluster is not read in the time that others have.
func (p *plane) sayMissing(ctx context.Context) error {
	select {
	case <-ctx.Done():
	case <-p.pipeline.Ready():
	case <-time.After(p.pipeline.deadline):
		if missing := p.missing(); len(missing) > 0 {
			p.options.Log.Info("proxies are not answered yet, as not all of our own cluster is read", "missing", missing)
		}
	}
	<-ctx.Done()
	return nil
}

func (p *plane) ready(*http.Request) error {
	select {
	case <-p.authority.Loaded():
	default:
		return errors.New("no certificate authority yet")
	}
	select {
	case <-p.pipeline.Ready():
		return nil
	default:
		return errors.New("the world is being read")
	}
}

func (p *plane) remoteChanged(id world.Cluster) {
	if name := p.wishes.Named(id); name != "" {
		p.inboxes.remotes.add(types.NamespacedName{Name: name})
	}
}

func (p *plane) rootChanged() {
	p.inboxes.trust.add(types.NamespacedName{Name: "all"})
	for _, namespace := range append(p.pipeline.ServingNamespaces(), p.options.World.SystemNamespace) {
		p.inboxes.roots.add(types.NamespacedName{Name: namespace})
	}
}

func (p *plane) needsRoot(namespace string) bool {
	return namespace == p.options.World.SystemNamespace || slices.Contains(p.pipeline.ServingNamespaces(), namespace)
}
