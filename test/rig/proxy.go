// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/world"
	"github.com/isthmus-mesh/isthmus/internal/zds"
)

// Proxy is one process of the node proxy, in a pod of its own, as a DaemonSet would have it.
type Proxy struct {
	*Process
	// Space is its pod's: metrics, readiness and dumps are on its usual ports there.
	Space *Space
	// Log is the file that it writes its logs to.
	Log string

	rig     *Rig
	node    *Node
	unserve func()
	// pod is what its cluster says of it: with the next Publish after it was started that it runs, and with the next one after Ready what it said of itself.
	pod *world.Pod
}

// ProxyOptions are what may be different from a DaemonSet's.
type ProxyOptions struct {
	// Program is the binary; "" is the one of this tree.
	Program string
	// Drain is how long its connections may go on when it ends; 0 is the program's own default.
	Drain time.Duration
	// Env is added to its environment.
	Env []string
	// Supervised has it run below a supervisor, which is the Process then.
	Supervised bool
	// Keys is a directory in memory in which its certificates outlive it; "": none do.
	Keys string
}

// StartProxy starts another proxy on the node, beside those that there are. It does not wait for anything.
func (n *Node) StartProxy(ctx context.Context, o ProxyOptions) (_ *Proxy, err error) {
	r := n.Cluster.rig
	if o.Program == "" {
		if o.Program, err = r.Program(ctx, "nodeproxy"); err != nil {
			return nil, err
		}
	}
	n.proxies++
	name := fmt.Sprintf("%s-proxy-%d", n.Name, n.proxies)
	p := &Proxy{rig: r, node: n, Log: filepath.Join(r.Dir, name+".log")}
	if p.Space, err = r.NewSpace(); err != nil {
		return nil, err
	}
	if p.unserve, err = n.Cluster.plane.serve(p.Space); err != nil {
		return nil, err
	}
	token, resolv := filepath.Join(r.Dir, "proxy-token"), filepath.Join(r.Dir, "resolv.conf")
	err = errors.Join(
		os.WriteFile(token, []byte(SystemNamespace+"/isthmus-nodeproxy\n"), 0o600),
		os.WriteFile(resolv, []byte("nameserver 127.0.0.53\n"), 0o600),
	)
	if err != nil {
		return nil, err
	}
	args := []string{
		"--controller=" + Controller, "--network=" + n.Network, "--cluster-id=" + n.Cluster.Name, "--zds-socket=" + n.agent.socket,
		"--token-path=" + token, "--root-ca=" + r.rootFile(), "--resolv-conf=" + resolv, "--node-name=" + n.Name, "--pod-name=" + name,
		"--state-dir=" + filepath.Join(r.Dir, n.Name+"-state"),
	}
	if o.Supervised {
		args = slices.Insert(args, 0, "supervise")
	}
	if o.Keys != "" {
		args = append(args, "--keys-dir="+o.Keys)
	}
	if o.Drain > 0 {
		args = append(args, "--drain="+o.Drain.String())
	}
	log, err := os.Create(p.Log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.CommandContext(r.alive, o.Program, args...)
	cmd.Env = append(os.Environ(), o.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	if p.Process, err = r.Start(p.Space, cmd); err != nil {
		return nil, err
	}
	p.pod = &world.Pod{Key: n.Cluster.key(SystemNamespace, name), Node: n.Name, ServiceAccount: "isthmus-nodeproxy", NodeProxy: world.NodeProxyPlain}
	r.Put(p.pod)
	return p, nil
}

// readyURL is asked inside of the proxy's pod.
const readyURL = "http://127.0.0.1:15021/healthz/ready"

// Ready waits until the proxy says that it serves all pods of its node.
func (p *Proxy) Ready(ctx context.Context) error {
	for {
		_, err := p.Space.Get(ctx, readyURL)
		if err == nil {
			p.told()
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("proxy is not ready: %w", err)
		case <-p.Ended():
			return fmt.Errorf("proxy ended: %w; see %s", errors.Join(p.Wait(), err), p.Log)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// told writes down what the proxy said of itself to the node's agent, as that would.
func (p *Proxy) told() {
	if slices.Contains(p.node.agent.server.Proxies(), zds.Proxy{Namespace: p.pod.Namespace, Name: p.pod.Name, Confines: true}) {
		said := *p.pod
		said.NodeProxy = world.NodeProxyConfines
		p.pod = &said
		p.rig.Put(p.pod)
	}
}

// Stop tells the proxy to end, as the kubelet does. It drains, and Ended says when it is done.
func (p *Proxy) Stop() error { return p.Signal(syscall.SIGTERM) }

// Release waits until the proxy has ended and lets go of its pod. Without it that goes with the rig.
func (p *Proxy) Release() error {
	err := p.Wait()
	p.unserve()
	p.rig.Drop(p.pod.Ref())
	return errors.Join(err, p.rig.release(p.Space))
}
