// SPDX-License-Identifier: Apache-2.0

// Command agent is Isthmus's agent on a node. Without an argument it serves; "agent uninstall" takes the mesh off the node. Called as
// isthmus-cni, or by a container runtime, it is the CNI plugin.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/go-logr/logr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"github.com/isthmus-mesh/isthmus/nodeproxy/agent"
	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/cni"
)

func main() {
	if filepath.Base(os.Args[0]) == cni.PluginName || os.Getenv("CNI_COMMAND") != "" {
		cni.Main()
		return
	}
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	flags := flag.NewFlagSet("agent", flag.ExitOnError)
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "usage: agent [flags]            serve this node\n       agent uninstall [flags]  take the mesh off this node")
		flags.PrintDefaults()
	}
	o := agent.Options{}
	flags.StringVar(&o.NodeName, "node-name", os.Getenv("NODE_NAME"), "name of this node (default $NODE_NAME)")
	flags.StringVar(&o.ZDSSocket, "zds-socket", "/var/run/isthmus/zds.sock", "socket to which node proxies connect")
	flags.StringVar(&o.CNISocket, "cni-socket", "/var/run/isthmus/cni.sock", "socket to which the CNI plugin posts; the same path here and on the node")
	flags.StringVar(&o.CNIBinDir, "cni-bin-dir", "/opt/cni/bin", "the node's directory of CNI plugins")
	flags.StringVar(&o.CNIConf, "cni-conf-dir", "/etc/cni/net.d", "the node's directory of CNI configuration")
	flags.StringVar(&o.Proc, "proc", "/proc", "the node's process table")
	flags.StringVar(&o.Listen, "listen", ":8000", "address of /readyz, /healthz and /metrics")
	flags.BoolVar(&o.DNS, "dns-capture", true, "capture DNS unless a pod's annotation says otherwise")
	flags.StringVar(&o.Selection.SystemNamespace, "system-namespace", "isthmus-system", "namespace in which the mesh runs")
	excluded := flags.String("exclude-namespaces", "kube-system", "namespaces that never are in the mesh, besides the system namespace; comma-separated")
	kubeconfig := flags.String("kubeconfig", "", "kubeconfig file (default: the pod's own service account)")
	verbose := flags.Bool("v", false, "log more")

	uninstall := len(args) > 0 && args[0] == "uninstall"
	if uninstall {
		args = args[1:]
	}
	_ = flags.Parse(args) // ExitOnError
	level := slog.LevelInfo
	if *verbose {
		level = slog.LevelDebug
	}
	o.Log = logr.FromSlogHandler(slog.NewJSONHandler(os.Stdout, &slog.HandlerOptions{Level: level}))
	klog.SetLogger(o.Log.WithName("client"))
	if flags.NArg() > 0 || o.NodeName == "" {
		flags.Usage()
		return 2
	}
	o.Selection.ExcludeNamespaces = namespaces(*excluded, o.Selection.SystemNamespace)

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := start(ctx, o, *kubeconfig, uninstall); err != nil {
		o.Log.Error(err, "agent ended")
		return 1
	}
	return 0
}

func start(ctx context.Context, o agent.Options, kubeconfig string, uninstall bool) error {
	config, err := clientConfig(kubeconfig)
	if err != nil {
		return err
	}
	config.UserAgent = "isthmus-agent"
	// A node has some hundred pods at most, and each is patched once or twice.
	config.QPS, config.Burst = 50, 100
	if o.Client, err = kubernetes.NewForConfig(config); err != nil {
		return err
	}
	if uninstall {
		return agent.Uninstall(ctx, o)
	}
	return agent.Run(ctx, o)
}

func clientConfig(kubeconfig string) (*rest.Config, error) {
	if kubeconfig != "" {
		return clientcmd.BuildConfigFromFlags("", kubeconfig)
	}
	return rest.InClusterConfig()
}

// namespaces gives a sorted list without repetitions: it is written into the node's CNI configuration, and must be the same each time.
func namespaces(list, system string) []string {
	all := []string{system}
	for n := range strings.SplitSeq(list, ",") {
		if n = strings.TrimSpace(n); n != "" {
			all = append(all, n)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
