// SPDX-License-Identifier: Apache-2.0

// Command controller is the control plane of one cluster: discovery and certificates for proxies on :15012, statuses and provisioning
// through the API server. It reads the local cluster and every remote one that it has credentials for.
//
// Replicas serve alike; with --leader-elect one of them writes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/isthmus-mesh/isthmus/controllers"
	"github.com/isthmus-mesh/isthmus/internal/ca"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// maxAliases bounds the names of the trust domain: each principal in a policy is written out under all of them.
const maxAliases = 16

// minCertificateTTL leaves proxies, which renew at half of it, time to do so while the control plane is away for a moment.
const minCertificateTTL = 10 * time.Minute

func main() {
	if err := run(os.Args[1:], os.Getenv); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "controller:", err)
		os.Exit(1)
	}
}

type settings struct {
	cluster, trustDomain, clusterDomain, systemNamespace string
	discovery, health, metrics, gatewayImage, proxies    string
	aliases                                              []string
	gatewayTraces                                        string
	profile                                              string
	leaderElect                                          bool
	verbosity                                            int
	remoteRoom                                           int64 // MiB
	certificateTTL                                       time.Duration
}

func parse(args []string, env func(string) string) (settings, error) {
	var s settings
	f := flag.NewFlagSet("controller", flag.ContinueOnError)
	text := func(p *string, name, variable, otherwise, usage string) {
		if v := env(variable); v != "" {
			otherwise = v
		}
		f.StringVar(p, name, otherwise, usage+" (environment: "+variable+")")
	}
	text(&s.cluster, "cluster-id", "CLUSTER_ID", "Kubernetes", "what this cluster is called in the mesh")
	text(&s.trustDomain, "trust-domain", "TRUST_DOMAIN", "cluster.local", "trust domain of the identities that are issued here")
	var aliases string
	text(&aliases, "trust-domain-aliases", "TRUST_DOMAIN_ALIASES", "", "other names of the trust domain, comma separated: their identities are ours")
	text(&s.clusterDomain, "cluster-domain", "CLUSTER_DOMAIN", "cluster.local", "DNS domain of services")
	text(&s.systemNamespace, "system-namespace", "POD_NAMESPACE", "isthmus-system", "namespace of the CA, of remote clusters' Secrets and of the network's label")
	text(&s.gatewayImage, "gateway-image", "GATEWAY_IMAGE", "isthmus.dev/gateway:dev", "image of provisioned gateways")
	text(&s.gatewayTraces, "gateway-otlp-endpoint", "GATEWAY_OTLP_ENDPOINT", "", "collector that gets a span of each stream and request through provisioned gateways, http(s)://host:4317; none to trace nothing")
	text(&s.proxies, "proxy-accounts", "PROXY_ACCOUNTS", "isthmus-system/isthmus-nodeproxy", "service accounts (namespace/name, comma separated) that may ask for the identities of pods on their own node")
	var ttl string
	text(&ttl, "max-certificate-ttl", "MAX_CERTIFICATE_TTL", ca.DefaultLifetime.String(), "longest lifetime of a certificate, for who asks for a longer one")
	f.StringVar(&s.discovery, "discovery-address", ":15012", "where discovery and certificates are served, over TLS")
	f.StringVar(&s.health, "health-address", ":8081", "where /healthz and /readyz are served")
	f.StringVar(&s.metrics, "metrics-address", ":8080", "where /metrics is served; 0 for nowhere")
	f.StringVar(&s.profile, "profile-address", "0", "where /debug/pprof is served, on loopback; 0 for nowhere")
	f.BoolVar(&s.leaderElect, "leader-elect", false, "write only while elected; needed with more than one replica")
	f.Int64Var(&s.remoteRoom, "remote-room", controllers.DefaultRoom>>20, "MiB that the objects of one remote cluster may take; beyond that its changes are read now and then only")
	f.IntVar(&s.verbosity, "v", 0, "how much is logged; 1 and above for debugging")
	if err := f.Parse(args); err != nil {
		return s, err
	}
	if f.NArg() > 0 {
		return s, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if s.cluster == "" || strings.ContainsAny(s.cluster, "/ \t\n") {
		return s, fmt.Errorf("--cluster-id %q must not be empty and must hold neither slash nor space", s.cluster)
	}
	if _, err := mesh.ParseIdentity("spiffe://" + s.trustDomain + "/ns/a/sa/b"); err != nil {
		return s, fmt.Errorf("--trust-domain %q is not a SPIFFE trust domain: %w", s.trustDomain, err)
	}
	for alias := range strings.SplitSeq(aliases, ",") {
		if alias = strings.TrimSpace(alias); alias == "" || alias == s.trustDomain || slices.Contains(s.aliases, alias) {
			continue
		}
		if _, err := mesh.ParseIdentity("spiffe://" + alias + "/ns/a/sa/b"); err != nil {
			return s, fmt.Errorf("--trust-domain-aliases: %q is not a SPIFFE trust domain: %w", alias, err)
		}
		s.aliases = append(s.aliases, alias)
	}
	if len(s.aliases) > maxAliases {
		return s, fmt.Errorf("--trust-domain-aliases: more than %d", maxAliases)
	}
	ends, err := time.ParseDuration(ttl)
	if err != nil || ends < minCertificateTTL || ends > ca.MaxLifetime {
		return s, fmt.Errorf("--max-certificate-ttl %q must be a duration between %s and %s", ttl, minCertificateTTL, ca.MaxLifetime)
	}
	s.certificateTTL = ends
	if !ownEyesOnly(s.profile) {
		return s, fmt.Errorf("--profile-address %q is not an address of loopback: profiles are not for others", s.profile)
	}
	if s.remoteRoom < 1 || s.remoteRoom > 1<<20 {
		return s, fmt.Errorf("--remote-room %d must be between 1 and %d MiB", s.remoteRoom, 1<<20)
	}
	for _, account := range strings.Split(s.proxies, ",") {
		if ns, name, ok := strings.Cut(account, "/"); s.proxies != "" && (!ok || ns == "" || name == "") {
			return s, fmt.Errorf("--proxy-accounts: %q is not of the form namespace/name", account)
		}
	}
	return s, nil
}

// ownEyesOnly says whether nobody but this machine (in a pod: the pod) can reach an address.
func ownEyesOnly(address string) bool {
	if address == "0" {
		return true
	}
	at, err := netip.ParseAddrPort(address)
	return err == nil && at.Addr().IsLoopback()
}

func run(args []string, env func(string) string) error {
	s, err := parse(args, env)
	if err != nil {
		return err
	}
	log := logr.FromSlogHandler(slog.NewJSONHandler(os.Stdout, &slog.HandlerOptions{Level: slog.Level(-s.verbosity)}))
	ctrl.SetLogger(log)
	klog.SetLogger(log.WithName("client"))

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	answering := newCollector().start(ctx)
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("find the API server: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.discovery)
	if err != nil {
		return err
	}
	log.Info("starting", "cluster", s.cluster, "trustDomain", s.trustDomain, "address", listener.Addr().String())
	return controllers.Run(ctx, controllers.Options{
		Log:  log,
		Rest: config,
		World: world.Config{
			LocalCluster: world.Cluster(s.cluster), TrustDomain: s.trustDomain, TrustDomainAliases: s.aliases, ClusterDomain: s.clusterDomain, SystemNamespace: s.systemNamespace,
		},
		Discovery:      listener,
		HealthAddress:  s.health,
		MetricsAddress: s.metrics,
		ProfileAddress: s.profile,
		LeaderElect:    s.leaderElect,
		GatewayImage:   s.gatewayImage,
		GatewayTraces:  s.gatewayTraces,
		Proxies:        strings.Split(s.proxies, ","),
		RemoteRoom:     s.remoteRoom << 20,

		MaxCertificateLifetime: s.certificateTTL,

		Registerer: metrics.Registry,
		Answering:  answering,
	})
}
