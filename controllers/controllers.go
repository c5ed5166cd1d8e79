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
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/ca"
	"github.com/isthmus-mesh/isthmus/internal/world"
	"github.com/isthmus-mesh/isthmus/internal/xds"
)

// serviceName is the Service by which proxies find us; our certificate proves its names.
const serviceName = "isthmus-controller"

const (
	// localQPS and localBurst bound our requests to our own API server per second. Token reviews are most of them when a node starts.
	localQPS   = 100
	localBurst = 200
)

// Options are what the process was started with. Rest, World and Discovery are required.
type Options struct {
	Log   logr.Logger
	Rest  *rest.Config
	World world.Config
	// Discovery is where xDS and the certificate service are served. Run closes it.
	Discovery net.Listener
	// ServerNames are further DNS names that our certificate proves.
	ServerNames []string
	// HealthAddress and MetricsAddress are host:port; "0" serves none.
	HealthAddress, MetricsAddress string
	// ProfileAddress is host:port where the runtime's profiles are served; "" or "0" serves none. They show what the process holds: it must not be reachable by
	// others.
	ProfileAddress string
	LeaderElect    bool
	GatewayImage   string
	// GatewayTraces is where gateways send spans, http(s)://host:port; "": nowhere.
	GatewayTraces string
	// Proxies are the service accounts, as "namespace/name", that may ask for identities of pods on their own node.
	Proxies []string
	// MaxCertificateLifetime is the longest lifetime of a certificate that somebody may ask for; 0 means ca.DefaultLifetime.
	MaxCertificateLifetime time.Duration
	// RemoteRoom is how many bytes are kept of one remote cluster, about; 0 means DefaultRoom.
	RemoteRoom int64
	// Registerer takes our metrics, or nil.
	Registerer prometheus.Registerer
	// Answering, if there is one, is called once, from a goroutine of its own, when proxies are answered.
	Answering func()

	// For tests; zero means what is usual.
	term     *officeTimes
	deadline time.Duration // see bootDeadline
}

// Run is the control plane: it serves discovery and certificates, and writes while it leads, until ctx ends. Everything that it started
// has ended when it returns.
func Run(ctx context.Context, o Options) error {
	defer o.Discovery.Close()
	office, err := newOffice(o)
	if err != nil {
		return err
	}
	mgr, err := newManager(o, office)
	if err != nil {
		return err
	}
	uid, err := ownIdentity(ctx, mgr.GetAPIReader())
	if err != nil {
		return err
	}
	p, err := assemble(ctx, mgr, office, o, uid)
	if err != nil {
		return err
	}
	if err := mgr.AddHealthzCheck("alive", func(*http.Request) error { return nil }); err != nil {
		return err
	}
	if err := mgr.AddReadyzCheck("discovery", p.ready); err != nil {
		return err
	}
	var telling sync.WaitGroup
	defer telling.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if o.Answering != nil {
		telling.Go(func() {
			select {
			case <-p.pipeline.Ready():
				o.Answering()
			case <-ctx.Done():
			}
		})
	}
	if err := mgr.Start(ctx); err != nil {
		return fmt.Errorf("run controllers: %w", err)
	}
	return nil
}

func newManager(o Options, office *office) (ctrl.Manager, error) {
	config := rest.CopyConfig(o.Rest)
	config.QPS, config.Burst = localQPS, localBurst
	forGateways, err := labels.NewRequirement(gatewayNameLabel, selection.Exists, nil)
	if err != nil {
		return nil, err
	}
	ours := cache.ByObject{Label: labels.NewSelector().Add(*forGateways)}
	system := o.World.SystemNamespace
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme,
		Logger: o.Log.V(1), // its news are for debugging; its errors are shown all the same
		Cache: cache.Options{
			DefaultTransform: reduceForCache,
			ByObject: map[client.Object]cache.ByObject{
				&appsv1.Deployment{}:                     ours,
				&policyv1.PodDisruptionBudget{}:          ours,
				&corev1.ServiceAccount{}:                 ours,
				&autoscalingv2.HorizontalPodAutoscaler{}: ours,
				&corev1.Secret{}:                         {Namespaces: map[string]cache.Config{system: {}}},
				&corev1.ConfigMap{}: {Namespaces: map[string]cache.Config{
					system:              {},
					cache.AllNamespaces: {FieldSelector: fields.OneTermEqualSelector("metadata.name", rootCertName)},
				}},
			},
		},
		Metrics:                       server.Options{BindAddress: cmp.Or(o.MetricsAddress, "0")},
		HealthProbeBindAddress:        cmp.Or(o.HealthAddress, "0"),
		PprofBindAddress:              cmp.Or(o.ProfileAddress, "0"),
		LeaderElection:                o.LeaderElect,
		LeaderElectionReleaseOnCancel: true,
		LeaseDuration:                 ptr.To(office.times.duration),
		RenewDeadline:                 ptr.To(office.times.deadline),
		RetryPeriod:                   ptr.To(office.times.retry),
		GracefulShutdownTimeout:       ptr.To(10 * time.Second),

		LeaderElectionResourceLockInterface: office.lock,
		// Names are unique by construction; the check is per process and would refuse a second manager in a test.
		Controller: ctrlconfig.Controller{SkipNameValidation: ptr.To(true)},
	})
	if err != nil {
		return nil, fmt.Errorf("make the manager: %w", err)
	}
	return mgr, nil
}

// ownIdentity is the UID of kube-system, by which a cluster is known whatever its address.
func ownIdentity(ctx context.Context, reader client.Reader) (types.UID, error) {
	var namespace corev1.Namespace
	if err := reader.Get(ctx, client.ObjectKey{Name: "kube-system"}, &namespace); err != nil {
		return "", fmt.Errorf("read our own identity: %w", err)
	}
	return namespace.UID, nil
}

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
	if o.Registerer != nil {
		o.Registerer.MustRegister(p.authority.used)
	}
	certificates := ca.NewService(ca.ServiceOptions{
		Log: o.Log.WithName("ca"), Signer: p.authority.Signer, Authorize: callers.Authorize, MaxLifetime: o.MaxCertificateLifetime, Registerer: o.Registerer,
	})
	p.remotes = NewRemotes(o.Log.WithName("remotes"), scheme, p.store, o.World, uid, p.remoteChanged)
	p.remotes.metrics = newRemoteMetrics(o.Registerer)
	p.remotes.room = cmp.Or(o.RemoteRoom, DefaultRoom)
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
	p.pipeline.reads = true
	p.wishes = &RemoteReconciler{
		client: c, namespace: o.World.SystemNamespace, local: o.World.LocalCluster, remotes: p.remotes, store: p.store,
		leading: mgr.Elected(), statuses: p.inboxes.remotes, log: o.Log.WithName("remotes"), first: make(chan struct{}),
	}
	p.shortage = &vipShortage{metrics: p.remotes.metrics, notify: p.remoteChanged}
	p.vips = &VIPReconciler{
		client: c, reader: mgr.GetAPIReader(), namespace: o.World.SystemNamespace, store: p.store, want: p.pipeline.WantVIPs,
		leading: mgr.Elected(), complete: p.pipeline.Ready(), heard: p.remotes.Heard, pace: vipPace, budget: newVIPBudget(), short: p.shortage.set, identity: office.identity, leads: office.leads(mgr.GetAPIReader()),
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
		mgr.Add(&defaults{client: mgr.GetClient(), reader: mgr.GetAPIReader(), namespace: o.World.SystemNamespace, log: o.Log.WithName("defaults")}),
	)
}

func (p *plane) addControllers(mgr ctrl.Manager) error {
	c, o := mgr.GetClient(), p.options
	gateways := &GatewayReconciler{
		client: c, plan: p.pipeline.Plan, reader: mgr.GetAPIReader(), events: p.events, obstacles: &obstacles{}, status: p.inboxes.gateways,
		settings: ProvisionSettings{
			Image: o.GatewayImage, Traces: o.GatewayTraces, Controller: net.JoinHostPort(serviceName+"."+o.World.SystemNamespace+".svc", "15012"), Config: o.World,
		},
	}
	roots := &RootReconciler{client: c, signer: p.authority.Signer, wanted: p.needsRoot}
	optional := func(kind client.Object, w writer, news *inbox) error {
		return whenServed(mgr, o.Log.WithName("controllers"), kind, w, news)
	}
	return errors.Join(
		p.authority.SetupWithManager(mgr),
		p.trust.SetupWithManager(mgr, p.inboxes.trust),
		p.wishes.SetupWithManager(mgr, p.inboxes.wishes),
		p.vips.SetupWithManager(mgr, p.inboxes.vips),
		optional(&gatewayv1.Gateway{}, gateways, p.inboxes.plans),
		optional(&gatewayv1.Gateway{}, newAutomaticWaypoints(c, p.pipeline.WantsWaypoint, p.pipeline.Ready()), p.inboxes.waypoints),
		roots.SetupWithManager(mgr, p.inboxes.roots),
		optional(&gatewayv1.GatewayClass{}, newGatewayClassStatus(c), newInbox()),
		optional(&gatewayv1.Gateway{}, &classKeeper{c}, newInbox()),
		optional(&gatewayv1.Gateway{}, newGatewayStatus(c, p.pipeline, gateways.obstacles), p.inboxes.gateways),
		optional(&gatewayv1.ListenerSet{}, newListenerSetStatus(c, p.pipeline, p.pipeline.Ready()), p.inboxes.sets),
		optional(&gatewayv1.HTTPRoute{}, newHTTPRouteStatus(c, p.pipeline, p.pipeline.Ready()), p.inboxes.routes),
		optional(&gatewayv1.GRPCRoute{}, newGRPCRouteStatus(c, p.pipeline, p.pipeline.Ready()), p.inboxes.grpcRoutes),
		optional(&gatewayv1.TLSRoute{}, newTLSRouteStatus(c, p.pipeline, p.pipeline.Ready()), p.inboxes.tlsRoutes),
		optional(&gatewayv1.TCPRoute{}, newTCPRouteStatus(c, p.pipeline, p.pipeline.Ready()), p.inboxes.tcpRoutes),
		optional(&gatewayv1.UDPRoute{}, newUDPRouteStatus(c, p.pipeline, p.pipeline.Ready()), p.inboxes.udpRoutes),
		optional(&gatewayv1.BackendTLSPolicy{}, newBackendTLSStatus(c, p.pipeline, p.pipeline.Ready()), p.inboxes.backendTLS),
		newServiceScopeStatus(c, p.pipeline).SetupWithManager(mgr, p.inboxes.scopes),
		newServiceStatus(c, p.pipeline).SetupWithManager(mgr, p.inboxes.services),
		(&policyStatusWriter{world.KindAuthorizationPolicy, c, p.pipeline}).SetupWithManager(mgr, p.inboxes.policies),
		(&policyStatusWriter{world.KindPeerAuthentication, c, p.pipeline}).SetupWithManager(mgr, p.inboxes.peers),
		newRemoteClusterStatus(c, p.pipeline, p.remotes, p.wishes, p.trust.Knows, p.shortage.of).SetupWithManager(mgr, p.inboxes.remotes),
	)
}

// readLocal feeds our own cluster.
func (p *plane) readLocal(ctx context.Context, mgr ctrl.Manager) error {
	feed := NewFeed(p.store, p.options.World.LocalCluster, localKinds(), p.options.World.SystemNamespace)
	defer feed.Wait()
	if err := feed.Attach(ctx, mgr.GetCache(), mgr.GetRESTMapper()); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	feed.TakeOver(nil)
	close(p.local)
	<-ctx.Done()
	return nil
}

// serve offers discovery and certificates once there is a certificate of our own.
func (p *plane) serve(ctx context.Context, services []xds.Service) error {
	select {
	case <-ctx.Done():
		return nil
	case <-p.authority.Loaded():
	}
	namespaced := serviceName + "." + p.options.World.SystemNamespace
	names := append([]string{namespaced + ".svc", namespaced + ".svc." + p.options.World.ClusterDomain, namespaced, serviceName}, p.options.ServerNames...)
	return xds.Serve(ctx, p.options.Discovery, ca.ServerConfig(p.authority.Signer, names...), services...)
}

// wakeWriters lets reconcilers look again that waited for this replica to lead or for the whole world to be known.
func (p *plane) wakeWriters(ctx context.Context, elected <-chan struct{}) error {
	complete := p.pipeline.Ready()
	for elected != nil || complete != nil {
		select {
		case <-ctx.Done():
			return nil
		case <-elected:
			elected = nil
			p.rootChanged()
		case <-complete:
			complete = nil
		}
		p.inboxes.wishes.add(types.NamespacedName{Name: "all"})
		p.inboxes.vips.add(types.NamespacedName{Name: vipsName})
	}
	<-ctx.Done()
	return nil
}

// known says whether our own cluster as it was at start, with the wishes and addresses that it holds, is in the store, and which other
// clusters are not.
func (p *plane) known() (own bool, unheard []world.Cluster) {
	for _, step := range []<-chan struct{}{p.local, p.wishes.Planned(), p.vips.Loaded(), p.trust.Loaded(), p.overlays.Loaded()} {
		select {
		case <-step:
		default:
			return false, nil
		}
	}
	return true, p.remotes.Unheard()
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

// everywhere is a part that runs on every replica.
type everywhere func(context.Context) error

// Start implements manager.Runnable.
func (f everywhere) Start(ctx context.Context) error { return f(ctx) }

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (f everywhere) NeedLeaderElection() bool { return false }

// toNamespace makes requests for the namespace of objects with a name.
func toNamespace(name string) handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
		if o.GetName() != name {
			return nil
		}
		return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: o.GetNamespace()}}}
	})
}
