// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/go-logr/logr"

	"github.com/isthmus-mesh/isthmus/internal/zds"
	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/redirect"
)

// agent is what a node's proxies need of its agent: rules in pods, and the hand-over of their namespaces. Which pods those are nobody watches.
type agent struct {
	socket  string
	capture redirect.Options
	rig     *Rig
	pods    map[*Pod]zds.Workload
	server  *zds.Server
	stop    func()
}

func newAgent(n *Node) (*agent, error) {
	a := &agent{
		socket: filepath.Join(n.Cluster.rig.Dir, n.Name+".sock"), capture: redirect.Options{Inbound: true, DNS: true, IPv6: true},
		rig: n.Cluster.rig, pods: map[*Pod]zds.Workload{},
	}
	return a, a.start()
}

// start begins to serve with the pods that there are. Until the socket is there proxies that want to connect try again.
func (a *agent) start() error {
	a.server = zds.NewServer(a.socket, logr.Discard())
	for p, w := range a.pods {
		if err := a.server.Stage(w, p.File()); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(a.rig.alive)
	ended := make(chan struct{})
	server := a.server
	a.rig.running.Go(func() {
		defer close(ended)
		_ = server.Run(ctx) // who misses it says so
	})
	a.stop = func() { cancel(); <-ended }
	return nil
}

// add hands a pod over. That there is no proxy yet is no error.
func (a *agent) add(ctx context.Context, w zds.Workload, p *Pod) error {
	a.pods[p] = w
	if err := a.server.Add(ctx, w, p.File()); err != nil && !errors.Is(err, zds.ErrNoProxy) {
		return fmt.Errorf("hand over %s: %w", p.Name, err)
	}
	return nil
}

// remove takes a pod back, if it was handed over.
func (a *agent) remove(ctx context.Context, p *Pod) error {
	w, ok := a.pods[p]
	if !ok {
		return nil
	}
	delete(a.pods, p)
	if err := a.server.Del(ctx, w.UID); err != nil {
		return fmt.Errorf("take back %s: %w", p.Name, err)
	}
	return nil
}

// RestartAgent ends the node's agent and begins another, which has the pods of the last one.
func (n *Node) RestartAgent() error {
	n.agent.stop()
	for p := range n.agent.pods {
		if err := p.Capture(); err != nil {
			return err
		}
	}
	return n.agent.start()
}
