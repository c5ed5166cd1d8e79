// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/internal/zds"
	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/redirect"
)

// enrolment is the set of this node's captured pods, and the steps by which a pod enters and leaves it. Steps on one pod must not
// overlap; who calls them sees to that.
type enrolment struct {
	log    logr.Logger
	dns    bool // capture DNS unless a pod says otherwise
	zds    *zds.Server
	probes *redirect.Probes

	// disturbed is called, from any goroutine and without waiting for anything, when a pod's rules should be looked at after a while.
	disturbed func(namespace, name string, after time.Duration)

	long sync.Once // said that redirect.AcceptMarks cannot be had here

	// addressing is held while the node's set of addresses is changed, with what says whose they are: a pod may be given the address of one whose end comes to our ears later.
	addressing sync.Mutex

	mu   sync.Mutex
	pods map[string]captured // by pod uid
	// kept are pods that an earlier agent may have captured, and that we have not found again; coming are those that are being captured. Of these only workload and addrs are set.
	kept, coming map[string]captured
}

// lookPause is the least time between two looks at one pod's rules: somebody who changes them all the time costs us 0.5 % of a CPU.
const lookPause = time.Second

// captured is one pod in the set.
type captured struct {
	workload zds.Workload
	netns    *os.File // owned by the set
	addrs    []netip.Addr
	options  redirect.Options
	served   bool            // a proxy has acknowledged it
	watch    *redirect.Watch // owned by the set; nil where the kernel has none for us
	suspect  bool            // something has changed in the namespace since looked
	looked   time.Time       // when the rules were last known to be whole
}

// close gives back what the set owns of a pod. It waits for the watch, which asks for the set's lock.
func (c captured) close() {
	if c.watch != nil {
		c.watch.Close()
	}
	c.netns.Close()
}

func newEnrolment(log logr.Logger, dns bool, server *zds.Server, probes *redirect.Probes) *enrolment {
	return &enrolment{log: log, dns: dns, zds: server, probes: probes, pods: map[string]captured{}, kept: map[string]captured{}, coming: map[string]captured{}, disturbed: func(string, string, time.Duration) {}}
}

func workloadOf(pod *corev1.Pod) zds.Workload {
	return zds.Workload{
		UID: string(pod.UID), Name: pod.Name, Namespace: pod.Namespace, ServiceAccount: pod.Spec.ServiceAccountName, Terminating: pod.DeletionTimestamp != nil,
	}
}

// errNodesNamespace says that what was named as a pod's network is the node's, of which nothing may be captured.
var errNodesNamespace = errors.New("the network namespace is the node's own")

// capture installs the rules in the pod's namespace and puts the pod into the set and into the proxy's snapshot; serve comes next. It
// owns netns. The order is that of fail-closed capture: the kubelet's probes are told apart before anything is captured, so that a
// pod is not restarted for want of a proxy, and from the moment of the rules on, nothing passes but through one. Rules of an earlier
// agent that are whole are left as they are.
func (e *enrolment) capture(pod *corev1.Pod, netns *os.File, addrs []netip.Addr) error {
	if nodes, err := e.probes.Shares(netns); nodes || err != nil {
		netns.Close()
		return cmp.Or(err, errNodesNamespace)
	}
	options, err := e.options(pod, netns)
	if err != nil {
		netns.Close()
		return err
	}
	w := workloadOf(pod)
	if err := e.probe(w, addrs); err != nil {
		netns.Close()
		e.abandon(w.UID)
		return err
	}
	c := captured{workload: w, netns: netns, addrs: addrs, options: options, looked: time.Now()}
	if c.watch, err = redirect.NewWatch(netns, func() { e.suspected(w.UID) }); err != nil {
		e.log.Error(err, "changes of a pod's rules are noticed late", "workload", w.Namespace+"/"+w.Name)
	}
	what, err := redirect.Damage(netns, options)
	if what != "" && err == nil {
		if pod.Annotations[annotationRedirection] == "" {
			e.spare(w, netns)
		}
		err = redirect.Repair(netns, options)
	}
	if err != nil {
		c.close()
		e.abandon(w.UID)
		return err
	}
	e.shorten(w, netns)
	e.mu.Lock()
	old, replaced := e.pods[w.UID]
	e.pods[w.UID] = c
	delete(e.coming, w.UID)
	former := e.kept[w.UID]
	delete(e.kept, w.UID)
	e.mu.Unlock()
	if replaced {
		old.close()
		former = old
	}
	e.unprobe(former, addrs)
	return e.zds.Stage(w, netns)
}

// offer hands a pod that runs outside of the mesh to the proxies before any of its traffic is captured, so that they listen by then and nothing of what begins meanwhile is refused. Where they cannot have it,
// or one hangs, it is captured all the same, and serve, which comes after that, says why.
func (e *enrolment) offer(ctx context.Context, pod *corev1.Pod, netns *os.File) {
	w := workloadOf(pod)
	if err := e.zds.Offer(ctx, w, netns); err != nil && !errors.Is(err, zds.ErrNoProxy) {
		e.log.V(1).Info("pod not served before it is captured", "workload", w.Namespace+"/"+w.Name, "cause", err.Error())
	}
}

// spare leaves a pod that joins what it has open. One that was captured before, and whose rules were damaged, is not spared: what it opened
// since then has passed by the mesh.
func (e *enrolment) spare(w zds.Workload, netns *os.File) {
	switch n, err := redirect.Spare(netns); {
	case err != nil:
		e.log.Error(err, "connections that a pod has open are reset as it joins the mesh", "workload", w.Namespace+"/"+w.Name)
	case n > 0:
		e.log.Info("connections that a pod has open stay outside of the mesh until they end", "workload", w.Namespace+"/"+w.Name, "connections", n)
	}
}

// shorten spares the kernel the detour of the application's answers. Where it cannot be had for one pod, it is so for all of the node.
func (e *enrolment) shorten(w zds.Workload, netns *os.File) {
	if err := redirect.AcceptMarks(netns); err != nil {
		e.long.Do(func() {
			e.log.Info("connections to applications take more processor time than they need", "workload", w.Namespace+"/"+w.Name, "cause", err.Error())
		})
	}
}

// keep lets proxies that serve a pod go on with it, although its network namespace has not been found. Its probes go on as well. Once it is captured it is kept no more.
func (e *enrolment) keep(pod *corev1.Pod) error {
	w := workloadOf(pod)
	e.mu.Lock()
	e.kept[w.UID] = captured{workload: w, addrs: podAddresses(pod)}
	e.mu.Unlock()
	return e.zds.Keep(w.UID)
}

// keeps says whether a pod is one of those that keep named.
func (e *enrolment) keeps(uid string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, kept := e.kept[uid]
	return kept
}

func (e *enrolment) options(pod *corev1.Pod, netns *os.File) (redirect.Options, error) {
	options := captureOptions(pod, e.dns)
	var err error
	options.IPv6, err = redirect.PrepareIPv6(netns)
	if err != nil {
		return options, fmt.Errorf("see whether the pod has IPv6: %w", err)
	}
	return options, nil
}

// suspected says that something has changed in a pod's namespace, be it by ourselves.
func (e *enrolment) suspected(uid string) {
	e.mu.Lock()
	c, ok := e.pods[uid]
	news := ok && !c.suspect
	if news {
		c.suspect = true
		e.pods[uid] = c
	}
	e.mu.Unlock()
	if news {
		e.disturbed(c.workload.Namespace, c.workload.Name, max(0, lookPause-time.Since(c.looked)))
	}
}

// suspectAll has every pod looked at, in case that the kernel told us nothing.
func (e *enrolment) suspectAll() {
	e.mu.Lock()
	uids := slices.Collect(maps.Keys(e.pods))
	e.mu.Unlock()
	for _, uid := range uids {
		e.suspected(uid)
	}
}

// maintain makes the rules be as the pod wants them, if it wants others than it has, or if somebody may have damaged them. It says
// what was damaged; without an error, that is put right.
func (e *enrolment) maintain(pod *corev1.Pod) (damage string, err error) {
	uid := string(pod.UID)
	e.mu.Lock()
	c, ok := e.pods[uid]
	e.mu.Unlock()
	if !ok {
		return "", nil
	}
	options := captureOptions(pod, e.dns)
	options.IPv6 = c.options.IPv6
	if c.suspect {
		// First: what changes while we look is looked at again.
		e.update(uid, func(c *captured) { c.suspect, c.looked = false, time.Now() })
		if options.IPv6, err = redirect.PrepareIPv6(c.netns); err == nil {
			damage, err = redirect.Damage(c.netns, c.options)
		}
	}
	other := !sameOptions(options, c.options)
	if err == nil && (damage != "" || other) {
		err = redirect.Repair(c.netns, options)
	}
	if err != nil {
		e.update(uid, func(c *captured) { c.suspect = true })
		return damage, err
	}
	if other {
		e.update(uid, func(c *captured) { c.options = options })
	}
	return damage, nil
}

func (e *enrolment) update(uid string, f func(*captured)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c, ok := e.pods[uid]; ok {
		f(&c)
		e.pods[uid] = c
	}
}

func sameOptions(a, b redirect.Options) bool {
	return a.Inbound == b.Inbound && a.DNS == b.DNS && a.IPv6 == b.IPv6 && slices.Equal(a.VirtualInterfaces, b.VirtualInterfaces)
}

// serve hands a captured pod to the proxy, again once the pod terminates, and waits until that knows. Without a proxy it is zds.ErrNoProxy.
func (e *enrolment) serve(ctx context.Context, pod *corev1.Pod) error {
	w := workloadOf(pod)
	e.mu.Lock()
	c, ok := e.pods[w.UID]
	e.mu.Unlock()
	if !ok || c.served && c.workload == w {
		return nil
	}
	if err := e.zds.Add(ctx, w, c.netns); err != nil {
		return err
	}
	e.update(w.UID, func(c *captured) { c.workload, c.served = w, true })
	return nil
}

// release takes the rules of a pod away that goes on running and leaves the mesh; forget comes last, so that no connection is captured for which nobody listens. The proxy carries on with
// what is open for a while, and takes what peers send before they know.
func (e *enrolment) release(uid string) error {
	e.mu.Lock()
	c, ok := e.pods[uid]
	e.mu.Unlock()
	if !ok {
		return nil
	}
	return redirect.Release(c.netns)
}

// forget takes a pod that is gone out of the set and tells the proxies; its rules went with its namespace.
func (e *enrolment) forget(ctx context.Context, uid string) error {
	e.mu.Lock()
	c, ok := e.pods[uid]
	delete(e.pods, uid)
	former := e.kept[uid]
	delete(e.kept, uid)
	e.mu.Unlock()
	if ok {
		defer c.close()
		former = c
	}
	e.unprobe(former, nil)
	return e.zds.Del(ctx, uid)
}

// state says whether a pod is captured, and whether it is served.
func (e *enrolment) state(uid string) (isCaptured, isServed bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, ok := e.pods[uid]
	return ok, c.served
}

// named gives the uids of the captured and kept pods of this namespace and name, of which one at most still exists.
func (e *enrolment) named(namespace, name string) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var uids []string
	for _, all := range []map[string]captured{e.pods, e.kept} {
		for uid, c := range all {
			if c.workload.Namespace == namespace && c.workload.Name == name {
				uids = append(uids, uid)
			}
		}
	}
	return uids
}

// unserved gives the pods that wait for a proxy, as "namespace/name": nobody has taken them, or those that are connected have refused them.
func (e *enrolment) unserved() []string {
	for _, uid := range e.zds.Unserved() {
		e.update(uid, func(c *captured) { c.served = false })
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	var keys []string
	for _, c := range e.pods {
		if !c.served {
			keys = append(keys, c.workload.Namespace+"/"+c.workload.Name)
		}
	}
	return keys
}

// counts gives how many pods are captured, and how many of them are served.
func (e *enrolment) counts() (all, served int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.pods {
		all++
		if c.served {
			served++
		}
	}
	return all, served
}

// close gives the namespaces back. The pods stay captured.
func (e *enrolment) close() {
	e.mu.Lock()
	all := slices.Collect(maps.Values(e.pods))
	clear(e.pods)
	e.mu.Unlock()
	for _, c := range all {
		c.close()
	}
}
