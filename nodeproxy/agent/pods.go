// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcore "k8s.io/client-go/kubernetes/typed/core/v1"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"

	"github.com/isthmus-mesh/isthmus/internal/zds"
	"github.com/isthmus-mesh/isthmus/nodeproxy/agent/redirect"
)

const (
	workers = 4 // pods of a node that are worked on at once
	// Retries of one pod start after firstRetry and double to lastRetry.
	firstRetry = 50 * time.Millisecond
	lastRetry  = 15 * time.Second
	// stripes is how many locks stand for all pods' own locks. Two pods share one rarely, and then only wait.
	stripes = 256
)

// pods watches this node's pods and brings each into the state that its labels ask for.
type pods struct {
	log       logr.Logger
	client    kubernetes.Interface
	node      string
	proc      string
	selection Selection
	enrolment *enrolment
	metrics   *metrics

	pods       listers.PodLister
	namespaces listers.NamespaceLister
	synced     []cache.InformerSynced
	factories  []informers.SharedInformerFactory
	queue      workqueue.TypedRateLimitingInterface[cache.ObjectName]
	events     record.EventRecorder
	sink       record.EventBroadcaster

	seed  maphash.Seed
	locks [stripes]sync.Mutex

	scanning  sync.Mutex // held during a scan: who comes meanwhile uses its result
	scanned   processes
	scannedAt time.Time
}

func newPods(log logr.Logger, client kubernetes.Interface, node, proc string, selection Selection, e *enrolment, m *metrics) (*pods, error) {
	ours := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(withoutManagedFields),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", node).String()
		}))
	all := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(withoutManagedFields))
	p := &pods{
		log: log, client: client, node: node, proc: proc, selection: selection, enrolment: e, metrics: m,
		pods: ours.Core().V1().Pods().Lister(), namespaces: all.Core().V1().Namespaces().Lister(),
		factories: []informers.SharedInformerFactory{ours, all},
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[cache.ObjectName](firstRetry, lastRetry)),
		sink: record.NewBroadcaster(),
		seed: maphash.MakeSeed(),
	}
	e.disturbed = func(namespace, name string, after time.Duration) {
		p.queue.AddAfter(cache.ObjectName{Namespace: namespace, Name: name}, after)
	}
	p.events = p.sink.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "isthmus-agent", Host: node})
	podHandler, err := ours.Core().V1().Pods().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: p.enqueue, UpdateFunc: func(_, now any) { p.enqueue(now) }, DeleteFunc: p.enqueue,
	})
	if err != nil {
		return nil, err
	}
	namespaceHandler, err := all.Core().V1().Namespaces().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		UpdateFunc: p.namespaceChanged,
	})
	if err != nil {
		return nil, err
	}
	p.synced = []cache.InformerSynced{podHandler.HasSynced, namespaceHandler.HasSynced}
	return p, nil
}

// withoutManagedFields drops what is the largest part of most objects and is never read here.
func withoutManagedFields(o any) (any, error) {
	if m, err := meta.Accessor(o); err == nil {
		m.SetManagedFields(nil)
	}
	return o, nil
}

func (p *pods) enqueue(o any) {
	name, err := cache.DeletionHandlingObjectToName(o)
	if err != nil {
		p.log.Error(err, "object without a name")
		return
	}
	p.queue.Add(name)
}

func (p *pods) namespaceChanged(old, now any) {
	before, after := old.(*corev1.Namespace), now.(*corev1.Namespace)
	if before.Labels[labelMode] == after.Labels[labelMode] {
		return
	}
	list, err := p.pods.Pods(after.Name).List(labels.Everything())
	if err != nil {
		p.log.Error(err, "pods of a namespace not listed", "namespace", after.Name)
		return
	}
	for _, pod := range list {
		p.enqueue(pod)
	}
}

// start begins to watch and waits for the first complete picture.
func (p *pods) start(ctx context.Context) error {
	p.sink.StartRecordingToSink(&typedcore.EventSinkImpl{Interface: p.client.CoreV1().Events("")})
	for _, f := range p.factories {
		f.Start(ctx.Done())
	}
	if !cache.WaitForCacheSync(ctx.Done(), p.synced...) {
		return fmt.Errorf("watch pods and namespaces: %w", context.Cause(ctx))
	}
	return nil
}

// restore fills the set at the agent's start: every pod that belongs to the mesh and runs is captured, again if it was, and is in the
// snapshot before the first proxy is answered. What cannot be found now is kept in the snapshot and tried again later. So is a pod without an
// address: it may have been announced to the agent before this one, and the kubelet has not said so yet.
func (p *pods) restore(probes *redirect.Probes) error {
	list, err := p.pods.List(labels.Everything())
	if err != nil {
		return err
	}
	running, err := scanProcesses(p.proc)
	if err != nil {
		return err
	}
	var wanted []*corev1.Pod
	var addrs []netip.Addr
	for _, pod := range list {
		if namespace, err := p.namespaces.Get(pod.Namespace); err == nil && p.selection.Wants(pod, namespace) {
			wanted = append(wanted, pod)
			addrs = append(addrs, podAddresses(pod)...)
		}
	}
	if err := probes.Reset(addrs); err != nil {
		return err
	}
	for _, pod := range wanted {
		// Before it is tried: what fails on the way leaves a pod that is kept its probes.
		if err := p.enrolment.keep(pod); err != nil {
			return err
		}
		netns, err := running.of(pod)
		if err == nil {
			err = p.captureIn(netns, pod)
		}
		if err != nil && len(pod.Status.PodIPs) > 0 { // or it has not begun, most likely, and will be announced
			p.log.Error(err, "pod not captured at start, will retry", "workload", pod.Namespace+"/"+pod.Name)
		}
	}
	return nil
}

// run works off the queue until ctx ends, and waits for its workers.
func (p *pods) run(ctx context.Context) {
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for p.next(ctx) {
			}
		})
	}
	all.Go(func() { p.watchProxies(ctx) })
	all.Go(func() { p.watchRules(ctx) })
	<-ctx.Done()
	p.queue.ShutDown()
	all.Wait()
	p.sink.Shutdown()
	for _, f := range p.factories {
		f.Shutdown()
	}
}

// watchProxies tries the pods again that wait for a proxy, when one connects, and writes down what that says of itself.
func (p *pods) watchProxies(ctx context.Context) {
	for {
		changed := p.enrolment.zds.Changed()
		for _, proxy := range p.enrolment.zds.Proxies() {
			if proxy.Confines {
				p.queue.Add(cache.ObjectName{Namespace: proxy.Namespace, Name: proxy.Name})
			}
		}
		if p.enrolment.zds.Connected() > 0 {
			for _, key := range p.enrolment.unserved() {
				if name, err := cache.ParseObjectName(key); err == nil {
					p.queue.Forget(name)
					p.queue.Add(name)
				}
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

func (p *pods) next(ctx context.Context) bool {
	key, shutdown := p.queue.Get()
	if shutdown {
		return false
	}
	defer p.queue.Done(key)
	switch err := p.reconcile(ctx, key); {
	case err == nil:
		p.queue.Forget(key)
	case ctx.Err() != nil:
	case errors.Is(err, zds.ErrNoProxy):
		// Not worth a line for each try: the pod's annotation says it, and watchProxies wakes us.
		p.queue.AddRateLimited(key)
	default:
		p.log.Error(err, "pod not settled, will retry", "workload", key.String())
		p.queue.AddRateLimited(key)
	}
	return true
}

// lock makes steps on one pod follow each other; it gives the function that unlocks.
func (p *pods) lock(key cache.ObjectName) func() {
	l := &p.locks[maphash.Comparable(p.seed, key)%stripes]
	l.Lock()
	return l.Unlock
}

// reconcile brings one pod into the state that its labels ask for.
func (p *pods) reconcile(ctx context.Context, key cache.ObjectName) error {
	defer p.lock(key)()
	pod, behind, err := p.existing(ctx, key)
	if err != nil {
		return err
	}
	if err := p.forgetOthers(ctx, key, pod); err != nil || pod == nil {
		return err
	}
	if p.selection.isProxy(pod) {
		return annotateProxy(ctx, p.client, pod, p.enrolment.zds.Proxies())
	}
	uid := string(pod.UID)
	if ended(pod) {
		return p.enrolment.forget(ctx, uid)
	}
	namespace, err := p.namespace(ctx, pod.Namespace, behind)
	if err != nil {
		return err
	}
	isCaptured, _ := p.enrolment.state(uid)
	switch wants := p.selection.Wants(pod, namespace); {
	case wants && isCaptured:
		return p.settle(ctx, pod)
	case wants:
		return p.enrolRunning(ctx, pod)
	case isCaptured:
		// Others stop tunnelling to the pod with the annotation, which comes before its proxy stops listening for them.
		if err := p.enrolment.release(uid); err != nil {
			return err
		}
		if err := annotateCapture(ctx, p.client, pod, ""); err != nil {
			return err
		}
		if err := p.enrolment.forget(ctx, uid); err != nil {
			return err
		}
		p.metrics.enrolments.WithLabelValues("released").Inc()
		p.log.Info("pod left the mesh", "workload", key.String())
		return nil
	case pod.Annotations[annotationRedirection] != "", p.enrolment.keeps(uid):
		return p.releaseForgotten(ctx, pod)
	}
	return nil
}

// forgetOthers drops pods of this name that are not the one that exists, if one does.
func (p *pods) forgetOthers(ctx context.Context, key cache.ObjectName, pod *corev1.Pod) error {
	for _, uid := range p.enrolment.named(key.Namespace, key.Name) {
		if pod != nil && uid == string(pod.UID) {
			continue
		}
		if err := p.enrolment.forget(ctx, uid); err != nil {
			return err
		}
		p.metrics.enrolments.WithLabelValues("gone").Inc()
	}
	return nil
}

// settle makes sure that a captured pod is captured as it wants to be, is served, and says so; and that its proxy knows when it terminates.
func (p *pods) settle(ctx context.Context, pod *corev1.Pod) error {
	if err := p.maintain(pod); err != nil {
		return err
	}
	serveErr := p.enrolment.serve(ctx, pod)
	isCaptured, isServed := p.enrolment.state(string(pod.UID))
	// A pod that is served, and whose end a proxy does not hear, refuses nothing. To wait for a proxy is told once; a proxy that refuses the pod may give other reasons each time.
	if waits := errors.Is(serveErr, zds.ErrNoProxy); serveErr != nil && !isServed && ctx.Err() == nil && (!waits || pod.Annotations[annotationRedirection] == "") {
		p.events.Eventf(pod, corev1.EventTypeWarning, reasonNotServed, "connections of the pod are refused until a node proxy serves it: %v", serveErr)
	}
	return errors.Join(serveErr, annotateCapture(ctx, p.client, pod, redirection(pod.Annotations[annotationRedirection], isCaptured, isServed)))
}

// enrolRunning takes in a pod that runs without having been announced: its labels or its namespace's changed. A pod without an address
// has no network yet, and will be announced.
func (p *pods) enrolRunning(ctx context.Context, pod *corev1.Pod) error {
	if len(pod.Status.PodIPs) == 0 || pod.DeletionTimestamp != nil {
		return nil
	}
	if err := p.join(ctx, pod); err != nil {
		p.metrics.enrolments.WithLabelValues("failed").Inc()
		p.events.Eventf(pod, corev1.EventTypeWarning, reasonCaptureFailed, "pod cannot join the mesh: %v", err)
		return err
	}
	p.metrics.enrolments.WithLabelValues("captured").Inc()
	p.log.Info("running pod joined the mesh", "workload", pod.Namespace+"/"+pod.Name)
	return p.settle(ctx, pod)
}
