// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/client-go/kubernetes"

	"github.com/isthmus-mesh/isthmus/internal/peephole"
	"github.com/isthmus-mesh/isthmus/internal/zds"
	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/cni"
	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/redirect"
)

// Options is everything that an agent is told. Every field but DNS must be set.
type Options struct {
	Log       logr.Logger
	Client    kubernetes.Interface
	NodeName  string    // the node whose pods are ours
	Selection Selection // which of them belong to the mesh
	DNS       bool      // capture DNS unless a pod says otherwise
	ZDSSocket string    // where node proxies connect
	CNISocket string    // where the CNI plugin posts; the same path here and on the node
	CNIBinDir string    // the node's directory of plugins
	CNIConf   string    // the node's directory of plugin configuration
	Proc      string    // the node's process table, usually /proc
	Listen    string    // host:port of readiness, liveness and metrics
}

// Run serves this node until ctx ends, and waits for all that it started. What it put into pods and onto the node stays.
func Run(ctx context.Context, o Options) error {
	// The thread's and not the process's: /proc/self means the first thread, which may be in a pod for a moment.
	node, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return fmt.Errorf("open the node's network namespace: %w", err)
	}
	defer node.Close()
	server := zds.NewServer(o.ZDSSocket, o.Log.WithName("zds"))
	probes := redirect.NewProbes(node, kubeletUID(o.Proc))
	enrolled := newEnrolment(o.Log.WithName("enrolment"), o.DNS, server, probes)
	defer enrolled.close()
	m := newMetrics()
	m.watch(enrolled, server)
	watched, err := newPods(o.Log.WithName("pods"), o.Client, o.NodeName, o.Proc, o.Selection, enrolled, m)
	if err != nil {
		return err
	}
	installation := o.installation()

	ctx, cancel := context.WithCancelCause(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel(nil)
	// own runs a part until the end; when a part fails, everything ends.
	own := func(part string, f func() error) {
		all.Go(func() {
			if err := f(); err != nil {
				cancel(fmt.Errorf("%s: %w", part, err))
			}
		})
	}

	var serving atomic.Bool
	own("serve health and metrics", func() error {
		return serveHealth(ctx, o.Listen, m, func() bool { return serving.Load() && installation.Installed() })
	})
	if err := watched.start(ctx); err != nil {
		return err
	}
	if err := watched.restore(probes); err != nil {
		return fmt.Errorf("take stock of the node: %w", err)
	}
	all.Go(func() { watched.run(ctx) })
	own("serve node proxies", func() error { return server.Run(ctx) })
	started := make(chan struct{})
	own("serve the CNI plugin", func() error { return watched.serveEvents(ctx, o.CNISocket, started) })
	select {
	case <-started:
		// Only now may the runtime call the plugin.
		own("keep the CNI plugin", func() error { return installation.Run(ctx) })
		own("keep the sockets", func() error { return watchSockets(ctx, o.CNISocket, o.ZDSSocket) })
		serving.Store(true)
		o.Log.Info("agent serves", "node", o.NodeName, "pods", server.Len())
	case <-ctx.Done():
	}
	<-ctx.Done()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func (o Options) installation() *cni.Installation {
	return &cni.Installation{BinDir: o.CNIBinDir, ConfDir: o.CNIConf, Log: o.Log.WithName("cni"),
		Entry: cni.Entry{Socket: o.CNISocket, ExcludeNamespaces: o.Selection.ExcludeNamespaces}}
}

// serveHealth answers /healthz while the process lives, /readyz when the node is served, and /metrics.
func serveHealth(ctx context.Context, listen string, m *metrics, ready func() bool) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !ready() {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", listen)
	if err != nil {
		return err
	}
	return peephole.Serve(ctx, l, mux)
}
