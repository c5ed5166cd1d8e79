// SPDX-License-Identifier: Apache-2.0

// Command gateway is the data plane of one Gateway object. It follows its configuration from the controller, proves the
// identity of its own service account, and serves until SIGTERM or SIGINT, upon which it drains; a second signal ends it at once.
//
// It runs as any user, writes no file but in --state-dir, and listens on the ports of its configuration, on 15021 (readiness), on 15020 (metrics) and on
// 127.0.0.1:15000 (administration).
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	_ "golang.org/x/crypto/x509roots/fallback" // what BackendTLSPolicies call System: the image has no CA certificates of its own

	"github.com/isthmus-mesh/isthmus/gateway"
	"github.com/isthmus-mesh/isthmus/internal/directory"
	"github.com/isthmus-mesh/isthmus/internal/keeper"
	"github.com/isthmus-mesh/isthmus/internal/logpipe"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/mtls"
	"github.com/isthmus-mesh/isthmus/internal/processors"
	"github.com/isthmus-mesh/isthmus/internal/tracing"
	"github.com/isthmus-mesh/isthmus/internal/xds"
)

func main() {
	o, err := parse(os.Args[1:], os.Getenv)
	if err != nil {
		if !errors.Is(err, errUsage) {
			fmt.Fprintln(os.Stderr, "gateway:", err)
		}
		os.Exit(2)
	}
	memory := setMemory(o.collectAt, os.Getenv, cgroupLimit)
	level := slog.LevelInfo
	if o.verbose {
		level = slog.LevelDebug // logr's V(1) and above
	}
	o.logged = logpipe.New(os.Stdout, logpipe.Room)
	log := logr.FromSlogHandler(slog.NewJSONHandler(o.logged, &slog.HandlerOptions{Level: level}))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	context.AfterFunc(ctx, stop)               // from then on a signal does what it does to any process
	go processors.Follow(context.Background()) // also while it drains
	status := 0
	if err := run(ctx, o, memory, log); err != nil {
		log.Error(err, "gateway ends")
		status = 1
	}
	o.logged.Close(lastLines)
	os.Exit(status)
}

// lastLines is how long a process that ends waits for its log to be read.
const lastLines = time.Second

// run serves until ctx ends and the drain is over.
func run(ctx context.Context, o options, memory memory, log logr.Logger) error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "isthmus_log_lines_lost_total", Help: "Lines of the log, also of the access log, that were lost because nobody read them in time."},
			func() float64 { return float64(o.logged.Lost()) }))
	live := directory.NewLive()
	var server *gateway.Server // before what is kept is read, and so has a size
	memory.changed = func() { server.MemoryChanged() }
	certificateOptions := mtls.SourceOptions{Log: log.WithName("mtls")}
	kept := keeper.New(keeper.Options{
		Log: log.WithName("snapshot"), Path: keepIn(o.state, &certificateOptions, registry), Scope: xds.SnapshotScope{Cluster: o.cluster, Network: o.network},
		MaxAge: o.stateAge, View: live, Registerer: registry, Sized: memory.without,
	})
	var source *mtls.Source // before the client runs
	controller := xds.ClientOptions{
		Log:    log.WithName("xds"),
		Target: o.controller, ServerName: o.proves,
		RootCAs: rootsIn(o.rootCert, log),
		Token:   tokenIn(o.token),
		Cluster: o.cluster,
		Node:    o.node(),
		// Addresses come first, so that exports are known to mean something when they arrive.
		Types: []xds.Type{xds.Addresses(), xds.Gateway(o.gateway), xds.Bundles()},
		Apply: func(d mesh.Delta) error {
			live.Apply(d)
			kept.Note(d)
			return source.Follow(d.Bundles)
		},
		Registerer: registry,
	}
	certificates, err := xds.NewCertificateClient(controller, o.identity)
	if err != nil {
		return err
	}
	defer func() { _ = certificates.Close() }() // fails only when it is closed already
	source = mtls.NewSource(certificates, certificateOptions)
	defer source.Close()
	keeper.WatchCertificates(source, registry)
	client := xds.NewClient(controller)
	tracer, err := tracing.New(ctx, tracing.Options{
		Endpoint: o.traces, Ratio: o.traceRatio, Registerer: registry, Failed: func(err error) { log.WithName("traces").Info("spans lost", "reason", err.Error()) },
		Resource: []string{"service.name", "isthmus-gateway", "k8s.cluster.name", o.cluster, "k8s.node.name", o.nodeName, "k8s.pod.name", o.pod, "k8s.namespace.name", o.gateway.Namespace},
	})
	if err != nil {
		return err
	}
	defer tracer.Shutdown()
	server, err = gateway.NewServer(gateway.Options{
		Log:       log.WithName("gateway"),
		Access:    log.WithName("access"),
		Gateway:   o.gateway,
		Identity:  o.identity,
		Network:   o.network,
		Address:   o.address(),
		SlowStart: o.slowStart,
		Directory: live,
		Synced:    kept.Usable(),
		Source:    source,
		Settle:    o.settle,
		Drain:     o.drain,
		Metrics:   registry,
		Tracer:    tracer,
	})
	if err != nil {
		return err
	}
	// Discovery and administration go on during the drain, so they end by a context of their own.
	rest, end := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	defer wait.Wait()
	defer end()
	if err := serveAdmin(rest, &wait, o, server, registry, log); err != nil {
		return err
	}
	wait.Go(func() { _ = kept.Follow(rest, client) }) // ends with rest, and says nothing but that
	log.Info("gateway starts", "gateway", o.gateway.String(), "identity", o.identity.String(), "controller", o.controller,
		"cluster", o.cluster, "network", o.network)
	server.Run(ctx)
	return nil
}

// keepIn gives the file that the configuration is kept in, and has certificates kept beside it; "" to keep nothing. A configuration holds the private keys of
// listeners, so a directory that is not good enough for keys keeps neither.
func keepIn(dir string, o *mtls.SourceOptions, registry prometheus.Registerer) string {
	keys := ""
	if dir != "" {
		keys = filepath.Join(dir, "keys")
	}
	if err := keeper.Certificates(o, keys, registry); err != nil {
		o.Log.Error(err, "neither configuration nor certificates will outlive a restart")
		return ""
	}
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, "configuration", "discovery.snapshot")
}
