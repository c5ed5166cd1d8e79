// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/test/fleet"
	"github.com/isthmus-mesh/isthmus/test/rig"
)

const (
	nodePodsCount     = 250
	nodePodsRounds    = 3
	nodePodsIdle      = 20 * time.Second
	nodePodsProcessor = 1.0   // percent of a core, at most, with nothing to do
	nodePodsMemory    = 200.0 // MB
	nodePodsTime      = 10.0  // s
	nodePodsWait      = 3 * time.Minute
)

// nodePods has a node with many pods, each of an identity of its own, join the mesh at once by a label on their namespace: with the shipped agent and the shipped proxy as processes, and an
// API server in memory. They have joined when the API server says so of each, and the proxy is ready, which is when it listens in all and has all certificates.
func nodePods(ctx context.Context, out io.Writer) (result, error) {
	var joined, memory, idle []float64
	for round := range nodePodsRounds {
		took, resident, processor, err := nodePodsOnce(ctx)
		if err != nil {
			return result{}, err
		}
		fmt.Fprintf(out, "round %d: all joined after %.1f s; proxy %.0f MB, agent %.0f MB; idle %.2f %% and %.2f %% of a core\n", round+1, took.Seconds(),
			resident[0], resident[1], processor[0], processor[1])
		joined, memory, idle = append(joined, took.Seconds()), append(memory, resident[0]+resident[1]), append(idle, processor[0]+processor[1])
	}
	return absolute(out,
		figure{What: "memory of proxy and agent", Unit: "MB", Ours: median(memory), Goal: nodePodsMemory},
		figure{What: "time until all have joined", Unit: "s", Ours: median(joined), Goal: nodePodsTime},
		figure{What: "processor of both when idle", Unit: "%", Ours: median(idle), Goal: nodePodsProcessor},
	), nil
}

// nodePodsOnce gives figures of the proxy and of the agent.
func nodePodsOnce(ctx context.Context) (took time.Duration, resident, processor [2]float64, err error) {
	fail := func(e error) (time.Duration, [2]float64, [2]float64, error) { return 0, resident, processor, e }
	ctx, cancel := context.WithTimeout(ctx, nodePodsWait)
	defer cancel()
	r, err := rig.New()
	if err != nil {
		return fail(err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	api, err := fleet.Start()
	if err != nil {
		return fail(err)
	}
	defer func() { err = errors.Join(err, api.Stop()) }()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: rig.Namespace}}
	if err := api.Create(namespace); err != nil {
		return fail(err)
	}
	n, err := r.Cluster("east").Node()
	if err != nil {
		return fail(err)
	}
	uids, objects := map[*rig.Pod]string{}, make([]*corev1.Pod, nodePodsCount)
	for i := range objects {
		p, err := n.Pod(fmt.Sprintf("app-%03d", i))
		if err != nil {
			return fail(err)
		}
		objects[i] = &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: rig.Namespace, Name: p.Name},
			Spec:       corev1.PodSpec{NodeName: n.Name, ServiceAccountName: p.Name},
			Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: p.Address.String()}}, PodIP: p.Address.String()},
		}
		if err := api.Create(objects[i]); err != nil {
			return fail(err)
		}
		created, err := fleet.Get(api, objects[i])
		if err != nil {
			return fail(err)
		}
		uids[p] = string(created.UID)
	}
	r.Publish()
	agent, err := n.StartAgent(ctx, api.Kubeconfig, uids)
	if err != nil {
		return fail(err)
	}
	proxy, err := n.StartProxy(ctx, rig.ProxyOptions{})
	if err != nil {
		return fail(err)
	}
	if err := proxy.Ready(ctx); err != nil {
		return fail(err)
	}

	began := time.Now()
	if err := fleet.Edit(api, namespace, func(ns *corev1.Namespace) { ns.Labels = map[string]string{"istio.io/dataplane-mode": "ambient"} }); err != nil {
		return fail(err)
	}
	for _, o := range objects {
		if err := joins(ctx, api, o); err != nil {
			return fail(err)
		}
	}
	if err := proxy.Ready(ctx); err != nil {
		return fail(err)
	}
	took = time.Since(began)

	both := [2]*rig.Process{proxy.Process, agent}
	before, err := usages(both)
	if err != nil {
		return fail(err)
	}
	select {
	case <-time.After(nodePodsIdle):
	case <-ctx.Done():
		return fail(ctx.Err())
	}
	after, err := usages(both)
	if err != nil {
		return fail(err)
	}
	for i := range both {
		resident[i] = float64(after[i].Resident) / 1e6
		processor[i] = 100 * (after[i].Processor - before[i].Processor).Seconds() / nodePodsIdle.Seconds()
	}
	return took, resident, processor, nil
}

// joins waits until the API server says that the pod's traffic is captured.
func joins(ctx context.Context, api *fleet.Server, like *corev1.Pod) error {
	for {
		p, err := fleet.Get(api, like)
		if err != nil || p.Annotations["ambient.istio.io/redirection"] == "enabled" {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("pod %s does not join: %w", like.Name, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}
