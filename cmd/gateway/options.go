// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway"
	"github.com/isthmus-mesh/isthmus/internal/keeper"
	"github.com/isthmus-mesh/isthmus/internal/logpipe"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds"
)

// options are the flags and the environment.
type options struct {
	gateway    mesh.GatewayKey
	identity   mesh.Identity
	controller string
	proves     string // the name that the controller proves, if it is not the host of controller
	cluster    string
	network    string
	rootCert   string
	token      string
	state      string
	stateAge   time.Duration
	drain      time.Duration
	settle     time.Duration
	slowStart  time.Duration
	verbose    bool
	// logged is where the log waits to be read; nil: nowhere.
	logged     *logpipe.Writer
	collectAt  int
	traces     string
	traceRatio float64

	readiness, metrics, admin string // listen addresses

	pod, podIP, nodeName, clusterDomain string
}

// errUsage means that flag has said what is wrong already, or was asked for help.
var errUsage = errors.New("usage")

// parse reads flags, whose defaults come from the environment.
func parse(args []string, env func(string) string) (options, error) {
	var o options
	var name, trustDomain, serviceAccount string
	f := flag.NewFlagSet("gateway", flag.ContinueOnError)
	f.StringVar(&name, "gateway", env("GATEWAY"), "the Gateway object to serve, as `namespace/name` (env GATEWAY)")
	f.StringVar(&o.controller, "controller", cmp.Or(env("CONTROLLER"), "isthmus-controller.isthmus-system.svc:15012"), "`host:port` of discovery and certificates (env CONTROLLER)")
	f.StringVar(&o.proves, "controller-name", env("CONTROLLER_NAME"), "DNS `name` that the controller's certificate must be for; the host of --controller if not given (env CONTROLLER_NAME)")
	f.StringVar(&o.cluster, "cluster-id", env("CLUSTER_ID"), "id of this cluster (env CLUSTER_ID)")
	f.StringVar(&o.network, "network", env("NETWORK"), "network of this cluster, unless the configuration names it (env NETWORK)")
	f.StringVar(&trustDomain, "trust-domain", cmp.Or(env("TRUST_DOMAIN"), "cluster.local"), "trust domain of the mesh (env TRUST_DOMAIN)")
	f.StringVar(&o.clusterDomain, "cluster-domain", cmp.Or(env("CLUSTER_DOMAIN"), "cluster.local"), "DNS domain of the cluster (env CLUSTER_DOMAIN)")
	f.StringVar(&serviceAccount, "service-account", env("SERVICE_ACCOUNT"), "own service account; the Gateway's name if not given (env SERVICE_ACCOUNT)")
	f.StringVar(&o.rootCert, "root-cert", cmp.Or(env("ROOT_CERT"), "/var/run/secrets/istio/root-cert.pem"), "`file` with the roots that the controller is verified with; read for each connection (env ROOT_CERT)")
	f.StringVar(&o.token, "token", cmp.Or(env("TOKEN"), "/var/run/secrets/tokens/istio-token"), "`file` with the service account token for the controller; read for each call (env TOKEN)")
	f.StringVar(&o.state, "state-dir", env("STATE_DIR"), "`directory` of a tmpfs in which the configuration and certificates outlive a restart of the process; none to keep nothing (env STATE_DIR)")
	f.DurationVar(&o.stateAge, "snapshot-max-age", keeper.DefaultMaxAge, "how long ago a controller must have confirmed what is restored")
	f.DurationVar(&o.drain, "drain", 10*time.Minute, "how long running streams may go on after SIGTERM")
	f.DurationVar(&o.settle, "settle", 5*time.Second, "how long to serve as before after SIGTERM, while readiness says no")
	f.DurationVar(&o.slowStart, "slow-start", 30*time.Second, "how long an endpoint that is new takes to get its whole share of new streams; negative: it gets it at once")
	f.StringVar(&o.readiness, "readiness-address", ":15021", "where /healthz/ready is served")
	f.StringVar(&o.metrics, "metrics-address", ":15020", "where /metrics and /stats/prometheus are served")
	f.StringVar(&o.admin, "admin-address", "127.0.0.1:15000", "where /config_dump and /debug/pprof are served; loopback only")
	f.StringVar(&o.traces, "otlp-endpoint", env("OTEL_EXPORTER_OTLP_ENDPOINT"), "collector that gets a span of each stream, http(s)://`host:4317` (OTLP over gRPC); none to trace nothing (env OTEL_EXPORTER_OTLP_ENDPOINT)")
	f.Float64Var(&o.traceRatio, "trace-ratio", 1, "how many of the traces that begin here are kept, 0 to 1")
	f.IntVar(&o.collectAt, "collect-at", gateway.CollectAt, "how much the heap grows, in `percent` of what is in use, before garbage is collected; GOGC in the environment counts instead")
	f.BoolVar(&o.verbose, "verbose", false, "log details, such as each failed handshake")
	if err := f.Parse(args); err != nil {
		return options{}, errUsage
	}
	if o.collectAt < 1 {
		return options{}, fmt.Errorf("--collect-at %d must be positive", o.collectAt)
	}
	if f.NArg() > 0 {
		return options{}, fmt.Errorf("%q is not a flag", f.Arg(0))
	}
	namespace, short, ok := strings.Cut(name, "/")
	if !ok || namespace == "" || short == "" || strings.Contains(short, "/") {
		return options{}, fmt.Errorf("--gateway %q is not namespace/name", name)
	}
	o.gateway = mesh.GatewayKey{Namespace: namespace, Name: short}
	o.identity = mesh.Identity{TrustDomain: trustDomain, Namespace: namespace, ServiceAccount: cmp.Or(serviceAccount, short)}
	if _, err := mesh.ParseIdentity(o.identity.String()); err != nil {
		return options{}, err
	}
	if _, _, err := net.SplitHostPort(o.controller); err != nil {
		return options{}, fmt.Errorf("--controller: %w", err)
	}
	host, _, err := net.SplitHostPort(o.admin)
	if err != nil {
		return options{}, fmt.Errorf("--admin-address: %w", err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return options{}, fmt.Errorf("--admin-address %s is not on the loopback", o.admin)
	}
	if o.drain < 0 || o.settle < 0 {
		return options{}, fmt.Errorf("--drain %s and --settle %s must not be negative", o.drain, o.settle)
	}
	if o.stateAge <= 0 {
		return options{}, fmt.Errorf("--snapshot-max-age %s must be positive", o.stateAge)
	}
	o.pod, o.podIP, o.nodeName = env("POD_NAME"), env("INSTANCE_IP"), env("NODE_NAME")
	return o, nil
}

// node says to the controller who asks, in istiod's form.
func (o options) node() xds.NodeInfo {
	ns := o.gateway.Namespace
	return xds.NodeInfo{
		ID: fmt.Sprintf("gateway~%s~%s.%s~%s.svc.%s", o.podIP, o.pod, ns, ns, o.clusterDomain),
		Metadata: map[string]string{
			"NAME": o.pod, "NAMESPACE": ns, "NODE_NAME": o.nodeName, "CLUSTER_ID": o.cluster, "NETWORK": o.network,
			"SERVICE_ACCOUNT": o.identity.ServiceAccount,
		},
	}
}

// address is that of our own pod; zero if it is not known, or odd.
func (o options) address() netip.Addr {
	a, err := netip.ParseAddr(o.podIP)
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap()
}
