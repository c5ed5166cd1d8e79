// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/redirect"
)

// scanAge is how old a scan of the process table may be and still be asked. A namespace whose pods all join at once costs a scan a second
// this way, and not one for each pod. What is found is checked by its address, whatever its age.
const scanAge = time.Second

// join finds a pod that runs and captures it. One that no agent has captured yet runs outside of the mesh until somebody listens, if anybody does in time.
func (p *pods) join(ctx context.Context, pod *corev1.Pod) error {
	netns, err := p.found(pod)
	if err != nil {
		return err
	}
	uid := string(pod.UID)
	if pod.Annotations[annotationRedirection] != "" || p.enrolment.keeps(uid) {
		return p.captureIn(netns, pod)
	}
	p.enrolment.offer(ctx, pod, netns)
	if err := p.captureIn(netns, pod); err != nil {
		return errors.Join(err, p.enrolment.zds.Del(ctx, uid))
	}
	return nil
}

// found opens the network namespace of a pod that runs by a recent scan of the process table, or by a new one if it is not in that.
func (p *pods) found(pod *corev1.Pod) (*os.File, error) {
	running, fresh, err := p.processes(scanAge)
	if err != nil {
		return nil, err
	}
	netns, err := running.of(pod)
	if fresh || !errors.Is(err, errNoNamespace) {
		return netns, err
	}
	if running, _, err = p.processes(0); err != nil {
		return nil, err
	}
	return running.of(pod)
}

// processes gives a scan that is not older than age, and says whether it was made for the caller.
func (p *pods) processes(age time.Duration) (found processes, fresh bool, err error) {
	p.scanning.Lock()
	defer p.scanning.Unlock()
	if time.Since(p.scannedAt) < age {
		return p.scanned, false, nil
	}
	if p.scanned, err = scanProcesses(p.proc); err != nil {
		return processes{}, true, err
	}
	p.scannedAt = time.Now()
	return p.scanned, true, nil
}

// captureIn captures a pod that runs, in its network namespace, which it owns.
func (p *pods) captureIn(netns *os.File, pod *corev1.Pod) error {
	addrs := podAddresses(pod)
	if len(addrs) == 0 {
		var err error
		if addrs, err = redirect.Addresses(netns); err != nil {
			netns.Close()
			return err
		}
	}
	return p.enrolment.capture(pod, netns, addrs)
}

// of opens the network namespace of a pod that runs, by its addresses or, while they are not posted, by its rules.
func (p processes) of(pod *corev1.Pod) (*os.File, error) {
	if addrs := podAddresses(pod); len(addrs) > 0 {
		return p.namespace(nodeUID(pod), addrs)
	}
	return p.captured(nodeUID(pod))
}

// releaseForgotten lets go a pod that an earlier agent captured, and that stopped wanting it while no agent ran. Anybody may have written the annotation that says so, also on a pod that is on the node's
// network: nothing of ours is there.
func (p *pods) releaseForgotten(ctx context.Context, pod *corev1.Pod) error {
	running, err := scanProcesses(p.proc)
	if err != nil {
		return err
	}
	netns, err := running.of(pod)
	if err != nil && !errors.Is(err, errNoNamespace) {
		return err
	}
	if err == nil {
		defer netns.Close()
		nodes, err := p.enrolment.probes.Shares(netns)
		if err != nil {
			return err
		}
		if !nodes {
			if err := redirect.Release(netns); err != nil {
				return err
			}
			p.log.Info("pod left the mesh", "workload", pod.Namespace+"/"+pod.Name)
		}
	}
	if err := annotateCapture(ctx, p.client, pod, ""); err != nil {
		return err
	}
	return p.enrolment.forget(ctx, string(pod.UID))
}
