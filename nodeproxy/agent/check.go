// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"k8s.io/client-go/tools/cache"

	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/cni"
	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/redirect"
)

// checked says what is wrong with the capture of a running pod; nil: nothing, be it that the pod does not belong to the mesh. It changes nothing: what is damaged is
// put right as soon as it is noticed, and it is seen to it that it is.
func (p *pods) checked(ctx context.Context, event cni.Event) error {
	key := cache.ObjectName{Namespace: event.PodNamespace, Name: event.PodName}
	pod, namespace, err := p.current(ctx, key, event.PodUID)
	if err != nil {
		return err
	}
	if !p.selection.Wants(pod, namespace) {
		return nil
	}
	defer p.lock(key)() // who lets the pod go closes its namespace
	return p.enrolment.check(string(pod.UID))
}

// errNotCaptured says that a pod's traffic passes by the proxy, or would.
var errNotCaptured = errors.New("its traffic is not captured")

// check looks at the rules of a captured pod.
func (e *enrolment) check(uid string) error {
	e.mu.Lock()
	c, ok := e.pods[uid]
	e.mu.Unlock()
	if !ok {
		return errNotCaptured
	}
	what, err := redirect.Damage(c.netns, c.options)
	if err != nil {
		return err
	}
	if what != "" {
		e.suspected(uid)
		return fmt.Errorf("its rules are damaged: %s", what)
	}
	return nil
}

func (p *pods) handleCheck(w http.ResponseWriter, r *http.Request) {
	event, err := cni.ReadEvent(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := p.checked(r.Context(), event); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// beat sets the time of the socket now and then, so that the plugin can tell how long an agent has been away.
func beat(ctx context.Context, path string) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(cni.Heartbeat):
			now := time.Now()
			_ = os.Chtimes(path, now, now) // a socket that is gone ends the agent by other means
		}
	}
}
