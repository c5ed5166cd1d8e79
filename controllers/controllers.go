// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
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
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

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

// readLocal feeds our own cluster.
func (p *plane) readLocal(ctx context.Context, mgr ctrl.Manager) error {
	feed := NewFeed(p.store, p.options.World.LocalCluster, localKinds(), p.options.World.SystemNamespace)
	defer feed.Wait()
	if err := feed.Attach(ctx, mgr.GetCache(), mapped(mgr.GetRESTMapper())); err != nil {
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
	return xds.Serve(ctx, p.options.Discovery, ca.ServerConfig(p.authority.Signer, p.serverNames()...), services...)
}

// serverNames are those by which proxies call us.
func (p *plane) serverNames() []string {
	namespaced := serviceName + "." + p.options.World.SystemNamespace
	return append([]string{namespaced + ".svc", namespaced + ".svc." + p.options.World.ClusterDomain, namespaced, serviceName}, p.options.ServerNames...)
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
