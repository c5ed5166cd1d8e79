// SPDX-License-Identifier: Apache-2.0

// Command nodeproxy is the data plane of one node. It runs in a pod of its own (not on the host's network), follows the control plane,
// and serves the pods that the node's agent hands over. Every flag has its default from an environment variable, so that a DaemonSet
// can fill them from the downward API.
//
// "nodeproxy supervise [flags]" does the same in a process below, and begins another as soon as that crashes.
package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/keeper"
	"github.com/isthmus-mesh/isthmus/internal/logpipe"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
	"github.com/isthmus-mesh/isthmus/internal/processors"
	"github.com/isthmus-mesh/isthmus/internal/tracing"
	"github.com/isthmus-mesh/isthmus/internal/xds"
	"github.com/isthmus-mesh/isthmus/nodeproxy"
)

type flags struct {
	controller, network, cluster           string
	trustDomain, clusterDomain             string
	socket, token, root, resolv            string
	node, pod, namespace, address, account string
	ready, metrics, admin                  string
	state, keys                            string
	snapshotAge, drain                     time.Duration
	format                                 string
	traces                                 string
	traceRatio                             float64
	localities                             bool
	verbose                                int
	// level is what is logged at least.
	level *slog.LevelVar
	// logged is where that waits to be read; nil: nowhere.
	logged *logpipe.Writer
}

func parse(args []string) (flags, error) {
	var f flags
	set := flag.NewFlagSet("nodeproxy", flag.ContinueOnError)
	text := func(to *string, name, env, fallback, usage string) {
		set.StringVar(to, name, cmp.Or(os.Getenv(env), fallback), fmt.Sprintf("%s (environment: %s)", usage, env))
	}
	text(&f.controller, "controller", "CONTROLLER", "isthmus-controller.isthmus-system.svc:15012", "host:port of discovery and certificates")
	text(&f.network, "network", "NETWORK", "", "network of this node's pods")
	text(&f.cluster, "cluster-id", "CLUSTER_ID", "", "id of this cluster")
	text(&f.trustDomain, "trust-domain", "TRUST_DOMAIN", "cluster.local", "trust domain of this proxy's own identity")
	text(&f.clusterDomain, "cluster-domain", "CLUSTER_DOMAIN", "cluster.local", "DNS domain of services")
	text(&f.socket, "zds-socket", "ZDS_SOCKET", "/var/run/isthmus/zds.sock", "socket of the node's agent")
	text(&f.token, "token-path", "TOKEN_PATH", "/var/run/secrets/tokens/istio-token", "file with this proxy's token")
	text(&f.root, "root-ca", "ROOT_CA", "/var/run/secrets/istio/root-cert.pem", "file with the roots that the controller is verified with")
	text(&f.resolv, "resolv-conf", "RESOLV_CONF", "/etc/resolv.conf", "where the servers for foreign names are read")
	text(&f.node, "node-name", "NODE_NAME", "", "name of this node")
	text(&f.pod, "pod-name", "POD_NAME", "", "name of this proxy's pod")
	text(&f.namespace, "pod-namespace", "POD_NAMESPACE", "isthmus-system", "namespace of this proxy's pod")
	text(&f.address, "instance-ip", "INSTANCE_IP", "", "address of this proxy's pod")
	text(&f.account, "service-account", "SERVICE_ACCOUNT", "isthmus-nodeproxy", "service account of this proxy's pod")
	text(&f.ready, "ready-address", "READY_ADDRESS", ":15021", "where readiness is served")
	text(&f.metrics, "metrics-address", "METRICS_ADDRESS", ":15020", "where metrics are served")
	text(&f.admin, "admin-address", "ADMIN_ADDRESS", "127.0.0.1:15000", "where dumps are served; keep it on loopback")
	text(&f.state, "state-dir", "STATE_DIR", "/var/run/isthmus/nodeproxy", "directory of the node in which what is known of discovery outlives a restart, and the next proxy finds this one; none to keep nothing, and to refuse connections at an upgrade")
	text(&f.keys, "keys-dir", "KEYS_DIR", "", "directory of a tmpfs in which certificates outlive a restart; none to keep none")
	var wrong error
	duration := func(to *time.Duration, name, env string, fallback time.Duration, usage string) {
		if text := os.Getenv(env); text != "" {
			var err error
			if fallback, err = time.ParseDuration(text); err != nil {
				wrong = errors.Join(wrong, fmt.Errorf("environment %s: %w", env, err))
			}
		}
		set.DurationVar(to, name, fallback, fmt.Sprintf("%s (environment: %s)", usage, env))
	}
	duration(&f.drain, "drain", "DRAIN", nodeproxy.DefaultDrain, "how long connections may go on after SIGTERM")
	duration(&f.snapshotAge, "snapshot-max-age", "SNAPSHOT_MAX_AGE", keeper.DefaultMaxAge, "how long ago a controller must have confirmed what is restored")
	text(&f.traces, "otlp-endpoint", "OTEL_EXPORTER_OTLP_ENDPOINT", "", "collector that gets a span of each connection, http(s)://host:4317 (OTLP over gRPC); none to trace nothing")
	ratio := 1.0
	if text := os.Getenv("OTEL_TRACES_SAMPLER_ARG"); text != "" {
		var err error
		if ratio, err = strconv.ParseFloat(text, 64); err != nil {
			wrong = errors.Join(wrong, fmt.Errorf("environment OTEL_TRACES_SAMPLER_ARG: %w", err))
		}
	}
	set.BoolVar(&f.localities, "locality-labels", os.Getenv("LOCALITY_LABELS") == "true", "count connections by region and zone, too (environment: LOCALITY_LABELS=true)")
	set.Float64Var(&f.traceRatio, "trace-ratio", ratio, "how many of the traces that begin here are kept, 0 to 1 (environment: OTEL_TRACES_SAMPLER_ARG)")
	text(&f.format, "log-format", "LOG_FORMAT", "json", "json or text, also of the access log")
	set.IntVar(&f.verbose, "v", 0, "1 logs details")
	if err := set.Parse(args); err != nil {
		return f, err
	}
	if wrong != nil {
		return f, wrong
	}
	if f.format != "json" && f.format != "text" {
		return f, fmt.Errorf("--log-format is %q, must be json or text", f.format)
	}
	f.level = new(slog.LevelVar)
	f.level.Set(slog.Level(-f.verbose))
	if f.network == "" || f.cluster == "" {
		return f, errors.New("--network and --cluster-id must be set: they say which of the addresses that the controller tells of are reachable here")
	}
	return f, nil
}

// handler writes the log.
func (f flags) handler(to io.Writer) slog.Handler {
	o := &slog.HandlerOptions{Level: f.level}
	if f.format == "text" {
		return slog.NewTextHandler(to, o)
	}
	return slog.NewJSONHandler(to, o)
}

func main() {
	args := os.Args[1:]
	supervised := len(args) > 0 && args[0] == "supervise"
	if supervised {
		args = args[1:]
	}
	f, err := parse(args)
	if err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return
		}
		fmt.Fprintln(os.Stderr, "nodeproxy:", err)
		os.Exit(2)
	}
	if supervised {
		log := logr.FromSlogHandler(f.handler(os.Stdout))
		os.Exit(supervise("/proc/self/exe", args, os.Environ(), log.WithName("supervisor")))
	}
	f.logged = logpipe.New(os.Stdout, logpipe.Room)
	log := logr.FromSlogHandler(f.handler(f.logged))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	go processors.Follow(context.Background()) // also while it drains
	status := 0
	if err := run(ctx, f, log); err != nil {
		log.Error(err, "node proxy failed")
		status = 1
	}
	f.logged.Close(lastLines)
	os.Exit(status)
}

// lastLines is how long a process that ends waits for its log to be read.
const lastLines = time.Second

// run serves until ctx ends, and then drains. Discovery and certificates go on during the drain, because connections still need them.
func run(ctx context.Context, f flags, log logr.Logger) error {
	alive, end := context.WithCancel(context.Background())
	defer end()
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "isthmus_restarts", Help: "Processes that crashed in this container before this one."}, restarts),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "isthmus_log_lines_lost_total", Help: "Lines of the log, also of the access log, that were lost because nobody read them in time."},
			func() float64 { return float64(f.logged.Lost()) }))

	view := directory.NewLive()
	kept := keeper.New(keeper.Options{
		Log: log.WithName("snapshot"), Path: snapshot(f.state), Scope: xds.SnapshotScope{Cluster: f.cluster, Network: f.network}, MaxAge: f.snapshotAge,
		View: view, Registerer: registry,
	})
	var certificates *mtls.Source // before the client runs
	options := xds.ClientOptions{
		Log: log.WithName("discovery"), Target: f.controller, RootCAs: func() *x509.CertPool { return roots(f.root) },
		Token: func() (string, error) { return token(f.token) }, Cluster: f.cluster, Registerer: registry,
		Node: xds.NodeInfo{
			ID: fmt.Sprintf("ztunnel~%s~%s.%s~%s.svc.%s", f.address, f.pod, f.namespace, f.namespace, f.clusterDomain),
			Metadata: map[string]string{
				"NAME": f.pod, "NAMESPACE": f.namespace, "NODE_NAME": f.node, "CLUSTER_ID": f.cluster, "NETWORK": f.network,
				"INSTANCE_IPS": f.address, "SERVICE_ACCOUNT": f.account,
			},
		},
		Types: []xds.Type{xds.Addresses(), xds.Policies(), xds.Bundles()},
		Apply: func(d mesh.Delta) error {
			view.Apply(d)
			kept.Note(d)
			return certificates.Follow(d.Bundles)
		},
	}
	client := xds.NewClient(options)
	issuer, err := xds.NewCertificateClient(options, mesh.Identity{TrustDomain: f.trustDomain, Namespace: f.namespace, ServiceAccount: f.account})
	if err != nil {
		return fmt.Errorf("certificate client: %w", err)
	}
	defer func() { _ = issuer.Close() }() // nothing of it is needed any more
	source := mtls.SourceOptions{Log: log.WithName("certificates")}
	if err := keeper.Certificates(&source, f.keys, registry); err != nil {
		source.Log.Error(err, "certificates will not outlive a restart")
	}
	certificates = mtls.NewSource(issuer, source)
	defer certificates.Close()
	keeper.WatchCertificates(certificates, registry)

	tracer, err := tracing.New(alive, tracing.Options{
		Endpoint: f.traces, Ratio: f.traceRatio, Registerer: registry, Failed: func(err error) { log.WithName("traces").Info("spans lost", "reason", err.Error()) },
		Resource: []string{"service.name", "isthmus-nodeproxy", "k8s.cluster.name", f.cluster, "k8s.node.name", f.node, "k8s.pod.name", f.pod, "k8s.namespace.name", f.namespace},
	})
	if err != nil {
		return err
	}
	defer tracer.Shutdown()

	proxy, err := nodeproxy.New(nodeproxy.Options{
		Log: log, AccessLog: log.WithValues("logger", "access"), Network: f.network, Cluster: f.cluster, ClusterDomain: f.clusterDomain,
		Node: f.node, PodNamespace: f.namespace, PodName: f.pod,
		View: view, Certificates: certificates, Socket: f.socket, Succession: f.state, Nameservers: nodeproxy.Nameservers(f.resolv),
		Drain: f.drain, Synced: kept.Usable(), Keeper: kept, Tracer: tracer, LocalityLabels: f.localities, Registerer: registry,
	})
	if err != nil {
		return err
	}
	log.Info("starting", "cluster", f.cluster, "network", f.network, "node", f.node, "controller", f.controller)
	discovery, admin := make(chan error, 1), make(chan error, 1)
	go func() { discovery <- kept.Follow(alive, client) }()
	serving, stopServing := context.WithCancel(ctx)
	defer stopServing()
	go func() {
		err := proxy.ServeAdmin(alive, nodeproxy.AdminOptions{Ready: f.ready, Metrics: f.metrics, Admin: f.admin, Gatherer: registry, Level: f.level})
		stopServing() // without readiness nobody would know that it serves
		admin <- err
	}()
	// Pods are taken over only once the mesh is known: until then an older proxy serves them better.
	select {
	case <-kept.Usable():
	case <-serving.Done():
	}
	if serving.Err() == nil {
		proxy.Run(serving)
	}
	end()
	if err := <-discovery; !errors.Is(err, context.Canceled) {
		log.Error(err, "discovery ended")
	}
	return <-admin
}

// snapshot is the file in the directory of state, "" if there is none.
func snapshot(dir string) string {
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, "discovery.snapshot")
}

// roots reads the file anew each time, because roots rotate.
func roots(path string) *x509.CertPool {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil
	}
	return pool
}

// token reads the file anew each time, because the kubelet renews it.
func token(path string) (string, error) {
	data, err := os.ReadFile(path)
	return strings.TrimSpace(string(data)), err
}
