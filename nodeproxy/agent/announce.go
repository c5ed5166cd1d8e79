// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/isthmus-mesh/isthmus/internal/zds"
	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/cni"
)

// proxyPatience is how long a starting pod waits for a node proxy to connect, before its start fails and the kubelet tries again.
const proxyPatience = 20 * time.Second

// askPatience is how long the plugin may take to say what it asks.
const askPatience = 10 * time.Second

// announced takes in a pod that is starting, if it belongs to the mesh: when it returns nil the pod may start. On an error the
// runtime throws the pod's network away, so nothing of it is kept, and an event on the pod says why: the kubelet's own buries it among
// identifiers of the sandbox.
func (p *pods) announced(ctx context.Context, event cni.Event) error {
	key := cache.ObjectName{Namespace: event.PodNamespace, Name: event.PodName}
	pod, namespace, err := p.current(ctx, key, event.PodUID)
	if err != nil {
		return err
	}
	if err := p.takeIn(ctx, key, pod, namespace, event); err != nil {
		p.events.Eventf(pod, corev1.EventTypeWarning, reasonStartBlocked, "pod may not start before its traffic is captured: %v", err)
		return err
	}
	return nil
}

func (p *pods) takeIn(ctx context.Context, key cache.ObjectName, pod *corev1.Pod, namespace *corev1.Namespace, event cni.Event) error {
	if !p.selection.Wants(pod, namespace) {
		return nil
	}
	// Before the pod's lock: changes of its labels need not wait for a proxy.
	if err := p.awaitProxy(ctx); err != nil {
		return err
	}
	defer p.lock(key)()
	netns, err := openNamespace(p.proc, event.Netns)
	if err != nil {
		return err
	}
	if err := p.enrolment.capture(pod, netns, event.Addresses()); err != nil {
		p.metrics.enrolments.WithLabelValues("failed").Inc()
		return err
	}
	if err := p.enrolment.serve(ctx, pod); err != nil {
		p.metrics.enrolments.WithLabelValues("failed").Inc()
		return errors.Join(err, p.enrolment.forget(context.WithoutCancel(ctx), string(pod.UID)))
	}
	p.metrics.enrolments.WithLabelValues("captured").Inc()
	p.log.Info("starting pod joined the mesh", "workload", key.String())
	p.queue.Add(key) // says so in the pod's annotation
	return nil
}

func (p *pods) awaitProxy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, proxyPatience)
	defer cancel()
	for {
		changed := p.enrolment.zds.Changed()
		if p.enrolment.zds.Connected() > 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return zds.ErrNoProxy
		case <-changed:
		}
	}
}

// serveEvents takes the plugin's events on a unix socket until ctx ends. Its file stays: while it is there and nobody listens, pods
// wait, which is what they should do while the agent is being replaced. started is closed when the socket is open.
func (p *pods) serveEvents(ctx context.Context, path string, started chan<- struct{}) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the former socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return err
	}
	close(started)
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+cni.AddPath, p.handleAdd)
	mux.HandleFunc("POST "+cni.CheckPath, p.handleCheck)
	mux.HandleFunc("GET "+cni.StatusPath, func(http.ResponseWriter, *http.Request) {}) // to answer is to be there
	var beating sync.WaitGroup
	defer beating.Wait()
	living, die := context.WithCancel(ctx)
	defer die()
	beating.Go(func() { beat(living, path) })
	server := eventServer(ctx, mux)
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		// ctx has ended and with it what the handlers wait for, so this is short.
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := server.Shutdown(grace); err != nil {
			server.Close()
		}
	})
	err = server.Serve(l)
	if stop() { // it ended by itself
		return err
	}
	<-ended
	return nil
}

// eventServer bounds how long the plugin may take to ask, not how long it waits for the answer.
func eventServer(ctx context.Context, handler http.Handler) *http.Server {
	return &http.Server{Handler: handler, ReadTimeout: askPatience, BaseContext: func(net.Listener) context.Context { return ctx }}
}

func (p *pods) handleAdd(w http.ResponseWriter, r *http.Request) {
	code := http.StatusOK
	defer func() { p.metrics.announcements.WithLabelValues(strconv.Itoa(code)).Inc() }()
	event, err := cni.ReadEvent(r.Body)
	if err != nil {
		code = http.StatusBadRequest
		http.Error(w, err.Error(), code)
		return
	}
	if err := p.announced(r.Context(), event); err != nil {
		p.log.Error(err, "pod may not start", "workload", event.PodNamespace+"/"+event.PodName)
		code = http.StatusInternalServerError
		http.Error(w, err.Error(), code)
	}
}
