// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// upLimit is how long a start may take, tools aside. On an idle machine of two cores, 11 to 20 s were seen; on one with
// ten times more to do than it has cores, 64.
const upLimit = 5 * time.Minute

// Options are what Up is asked for.
type Options struct {
	Name     string
	Shape    Shape
	Progress io.Writer // gets a line for each stage, with its time
}

// Up makes a lab and returns when all nodes are ready, DNS answers and pods can be created. A lab that is up in the
// same shape is left as it is; one that is broken or half made is removed and made again. If Up fails or ctx
// ends, it removes what it has made; of a failure it keeps the logs, and says where. The calling program must be cmd/lab: the lab's processes run it again.
func Up(ctx context.Context, o Options) error {
	if err := RequireRoot(); err != nil {
		return err
	}
	if err := o.Shape.Check(); err != nil {
		return err
	}
	p, err := placesOf(o.Name)
	if err != nil {
		return err
	}
	say := func(format string, arguments ...any) { fmt.Fprintf(o.Progress, format+"\n", arguments...) }
	release, err := p.lock(ctx, func() { say("lab %s: wait for another up or down", o.Name) })
	if err != nil {
		return err
	}
	defer release()

	r, err := p.readRecord()
	switch {
	case err == nil && r.Complete:
		fault := newLab(p, r).Fault(ctx)
		if fault == nil && r.Shape == o.Shape {
			say("lab %s is up already: %s", o.Name, r.Shape)
			return nil
		}
		if fault == nil {
			return fmt.Errorf("lab %s is up as %s; run `lab down --name %s` first to make it %s", o.Name, r.Shape, o.Name, o.Shape)
		}
		say("lab %s is broken (%v): making it again", o.Name, fault)
	case err == nil:
		say("lab %s is half made: making it again", o.Name)
	case !errors.Is(err, os.ErrNotExist):
		say("lab %s: %v: making it again", o.Name, err)
	default:
		paths, err := labNetns(o.Name)
		if err != nil {
			return err
		}
		if len(paths) > 0 {
			return fmt.Errorf("this machine has network namespaces of a lab %s that was made elsewhere (%s is empty); remove it with `lab down --name %s`, or choose another name",
				o.Name, p.state(), o.Name)
		}
	}
	if err := p.down(ctx); err != nil {
		return err
	}
	// Before the build, which can take ten minutes.
	if err := p.preflight(ctx, o.Progress, o.Shape); err != nil {
		return err
	}
	if err := Build(ctx, o.Progress); err != nil {
		return err
	}
	if err := p.up(ctx, o.Shape, say); err != nil {
		if ctx.Err() == nil {
			if kept := p.keepLogs(); kept != nil {
				err = errors.Join(err, fmt.Errorf("keep the logs: %w", kept))
			}
			say("lab %s failed, removing it; the ends of its logs are kept in %s", o.Name, p.failed())
		}
		// The caller's context may be what ended; the teardown has its own limit.
		return errors.Join(err, p.down(context.WithoutCancel(ctx)))
	}
	return nil
}

func (p places) up(ctx context.Context, shape Shape, say func(string, ...any)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, upLimit, fmt.Errorf("not ready after %s", upLimit))
	defer cancel()
	began := time.Now()
	r := record{Name: p.name, Shape: shape, Started: began}
	l := newLab(p, r)
	stage := func(name string, f func() error) error {
		from := time.Now()
		if err := f(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		say("%-32s %5.1f s", name, time.Since(from).Seconds())
		return nil
	}
	stages := []struct {
		name string
		run  func() error
	}{
		{"certificates and images", func() error { return p.prepare(l, r) }},
		{"networks", func() error { return p.buildNetwork(shape) }},
		{"processes", func() error { return p.startAll(l, &r) }},
		{"API servers ready", func() error {
			return l.each(func(c *Cluster) error { return c.waitAPI(ctx) })
		}},
		{"nodes, DNS and accounts ready", func() error {
			return l.each(func(c *Cluster) error { return c.settle(ctx) })
		}},
	}
	for _, s := range stages {
		if err := stage(s.name, s.run); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
	}
	r.Complete = true
	if err := p.writeRecord(r); err != nil {
		return err
	}
	say("lab %s is up: %s, %.1f s", p.name, shape, time.Since(began).Seconds())
	return nil
}

// prepare writes all that the lab's processes read.
func (p places) prepare(l *Lab, r record) error {
	if err := os.MkdirAll(p.state(), 0o755); err != nil {
		return err
	}
	if err := p.writeRecord(r); err != nil {
		return err
	}
	// A copy: `go run` deletes what it ran, and a rebuild must not change what a lab that is up starts later.
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	if err := writeFile(p.program(), self, 0o755); err != nil {
		return err
	}
	var images error
	var writing sync.WaitGroup
	writing.Go(func() { images = p.writeBaseImages() })
	err = l.each(func(c *Cluster) error { return p.writePKI(c.Name, c.site, len(c.nodes), r.Started) })
	writing.Wait()
	return errors.Join(err, images)
}

// startAll starts every process of the lab.
func (p places) startAll(l *Lab, r *record) error {
	if r.Shape.WAN == WANEmulated {
		if err := p.startWAN(); err != nil {
			return err
		}
	}
	for _, c := range l.clusters {
		if _, err := p.startMachine(c.Name, 0); err != nil {
			return err
		}
	}
	for _, c := range l.clusters {
		for _, n := range c.nodes {
			if _, err := p.startMachine(c.Name, n.index); err != nil {
				return err
			}
		}
		_, err := p.start(spawn{
			name: loadBalancerProcess(c.Name), netns: p.netns(c.Name + "-edge"), log: p.box(c.Name, "load-balancer.log"),
			args: []string{"internal", "load-balancer", p.name, c.Name},
		})
		if err != nil {
			return err
		}
	}
	ports, err := p.startForwarder(l.clusters)
	if err != nil {
		return err
	}
	r.Ports = ports
	return p.writeRecord(*r)
}

func loadBalancerProcess(cluster string) string { return cluster + "-lb" }

// each calls f for all clusters at once.
func (l *Lab) each(f func(c *Cluster) error) error {
	errs := make([]error, len(l.clusters))
	var running sync.WaitGroup
	for i, c := range l.clusters {
		running.Go(func() {
			if err := f(c); err != nil {
				errs[i] = fmt.Errorf("cluster %s: %w", c.Name, err)
			}
		})
	}
	running.Wait()
	return errors.Join(errs...)
}

func (c *Cluster) client() (kubernetes.Interface, error) {
	config, err := c.RESTConfig()
	if err != nil {
		return nil, err
	}
	config.Timeout = 10 * time.Second
	return kubernetes.NewForConfig(config)
}

// ready asks the API server whether it is.
func (c *Cluster) ready(ctx context.Context, client kubernetes.Interface) error {
	_, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
	if err != nil {
		return fmt.Errorf("API server %s: %w", c.APIServer(), err)
	}
	return nil
}

func (c *Cluster) waitAPI(ctx context.Context) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	return poll(ctx, 100*time.Millisecond, func() error { return c.ready(ctx, client) })
}

// settle installs DNS and waits until the cluster can be used.
func (c *Cluster) settle(ctx context.Context) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	if err := installDNS(ctx, client); err != nil {
		return err
	}
	var waits [3]error
	var waiting sync.WaitGroup
	waiting.Go(func() { waits[0] = c.settleNodes(ctx, client) })
	waiting.Go(func() {
		waits[1] = poll(ctx, 100*time.Millisecond, func() error {
			d, err := client.AppsV1().Deployments(metav1.NamespaceSystem).Get(ctx, dnsName, metav1.GetOptions{})
			if err == nil && d.Status.AvailableReplicas < 1 {
				err = errors.New("DNS is not available")
			}
			return err
		})
	})
	waiting.Go(func() {
		// Pods are refused until their namespace has it.
		waits[2] = poll(ctx, 100*time.Millisecond, func() error {
			_, err := client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
			return err
		})
	})
	waiting.Wait()
	return errors.Join(waits[:]...)
}

// settleNodes says which pod range each node has, and waits until they are ready.
func (c *Cluster) settleNodes(ctx context.Context, client kubernetes.Interface) error {
	for _, n := range c.nodes {
		pods := c.site.pods(n.index).String()
		patch := fmt.Appendf(nil, `{"spec":{"podCIDR":%q,"podCIDRs":[%q]}}`, pods, pods)
		err := poll(ctx, 100*time.Millisecond, func() error {
			_, err := client.CoreV1().Nodes().Patch(ctx, n.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
			if apierrors.IsNotFound(err) {
				return fmt.Errorf("node %s has not registered", n.Name)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	for _, n := range c.nodes {
		err := poll(ctx, 100*time.Millisecond, func() error { return n.ready(ctx, client) })
		if err != nil {
			return err
		}
	}
	return nil
}

// ready asks Kubernetes whether the node is.
func (n *Node) ready(ctx context.Context, client kubernetes.Interface) error {
	node, err := client.CoreV1().Nodes().Get(ctx, n.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			if condition.Status == corev1.ConditionTrue {
				return nil
			}
			return fmt.Errorf("node %s: %s", n.Name, condition.Message)
		}
	}
	return fmt.Errorf("node %s has no status", n.Name)
}
