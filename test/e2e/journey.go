// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/test/e2e/traffic"
)

// journey is three clusters that are called by each other while they change.
type journey struct {
	stage
	loads []*stream // two of each cluster
}

const (
	journeyEvery     = 100 * time.Millisecond // a new connection from each cluster
	journeyKept      = 9                      // connections that each cluster keeps: each of the service's pods has some
	journeyKeptEvery = 400 * time.Millisecond

	// recovered is how soon no request may fail any more after a cluster was lost without a word: the bound for the time after which a connection that is answered by
	// nobody is given up, and its gateway passed over.
	recovered = 10 * time.Second
	// returned is how soon a cluster must be used again that came back: its kubelet starts, its pods become ready, and whoever passes its gateway over asks it again.
	returned = 3 * time.Minute
)

// RunJourney makes a lab of three clusters, sends requests from each to all, and changes one thing after the other meanwhile: what is planned must not cost a
// single request or connection. Then it loses a cluster without a word. The lab stays up.
func RunJourney(ctx context.Context, o Options) (*Report, error) {
	j := &journey{stage: newStage(o)}
	defer j.stop()
	steps := []struct {
		title string
		run   func(context.Context) error
	}{
		{"1. Three clusters with the same pod and service ranges, Isthmus on each, linked", j.set},
		{"2. One service, spread over the pods of all three", j.spread},
		{"3. Gateways are rolled", j.rollGateways},
		{"4. Controllers are rolled", j.rollControllers},
		{"5. Node proxies are rolled", j.rollProxies},
		{"6. Agents are rolled", j.rollAgents},
		{"7. Credentials of links are replaced", j.replaceCredentials},
		{"8. The root of all certificates is replaced", j.replaceRoot},
		{"9. A cluster is unlinked and linked again", j.relink},
		{"10. A cluster is lost without a word, and comes back", j.lose},
	}
	for _, step := range steps {
		j.Step("%s", step.title)
		if err := step.run(ctx); err != nil {
			j.Check(step.title, false, "%v", err)
			return j.Report, fmt.Errorf("%s: %w", step.title, err)
		}
	}
	return j.Report, nil
}

func (j *journey) set(ctx context.Context) error {
	if err := j.makeLab(ctx, 3); err != nil {
		return err
	}
	return j.installAll(ctx)
}

func (j *journey) stop() {
	for _, s := range j.loads {
		s.stop()
	}
}

// spread makes the service global, its clusters unequal, and starts the traffic that goes on through all steps.
func (j *journey) spread(ctx context.Context) error {
	for i, c := range j.clusters {
		if err := c.scale(ctx, "hello", i+1); err != nil {
			return err
		}
	}
	for _, c := range j.clusters {
		if seen, ok := until(ctx, 60*time.Second, c.deploymentReady(demoNamespace, "hello")); !ok {
			return fmt.Errorf("hello in %s: %s", c.Name, seen)
		}
	}
	if err := j.setGlobal(ctx, true); err != nil {
		return err
	}
	for _, c := range j.clusters {
		seen, ok := until(ctx, 30*time.Second, func(ctx context.Context) (string, bool) {
			answers, err := request(ctx, c, helloURL, j.marker, 60, 10*time.Millisecond)
			if err != nil {
				return err.Error(), false
			}
			counts := answers.By(traffic.Pod)
			return fmt.Sprintf("%s; %s", traffic.Counts(counts), failures(answers)), len(counts) == 6 && len(answers.Failed()) == 0
		})
		if !j.Check(c.Name+": the 6 pods of 3 clusters answer", ok, "%s", seen) {
			return errors.New("the mesh is not whole")
		}
	}
	for _, c := range j.clusters {
		fresh, err := startStream(ctx, c, helloURL, j.marker, journeyEvery)
		if err != nil {
			return err
		}
		kept, err := startKept(ctx, c, helloURL, j.marker, journeyKept, journeyKeptEvery)
		if err != nil {
			fresh.stop()
			return err
		}
		j.loads = append(j.loads, fresh, kept)
	}
	return j.during(ctx, "nothing changes", func(ctx context.Context) error {
		counts := map[string]int{}
		for _, s := range j.loads {
			if s.kept {
				continue
			}
			for pod, n := range collect(ctx, s.Log, time.Time{}, 200, 60*time.Second).By(traffic.Pod) {
				counts[pod] += n
			}
		}
		j.Check("new connections come evenly to the 6 pods, however many a cluster has", len(counts) == 6 && even(counts), "%s", traffic.Counts(counts))
		return nil
	})
}

// during makes a change and judges what every client saw from its beginning until a while after its end: no request failed, and no kept connection broke.
func (j *journey) during(ctx context.Context, what string, change func(context.Context) error) error {
	began := time.Now()
	if err := change(ctx); err != nil {
		return err
	}
	took := time.Since(began)
	pause(ctx, noticed)
	for _, kept := range []bool{false, true} {
		requests, failed, first := 0, 0, ""
		for _, s := range j.loads {
			if s.kept != kept {
				continue
			}
			// What was begun before the change is over by now, and counts as well.
			results, _ := s.Since(began.Add(-journeyEvery))
			requests += len(results)
			if n := len(results.Failed()); n > 0 {
				failed += n
				first = fmt.Sprintf("; from %s: %s", s.from, failures(results))
			}
		}
		name := what + ": no request on a new connection failed"
		if kept {
			name = what + ": no kept connection broke"
		}
		j.Check(name, failed == 0 && requests > 0, "%d requests in %s, %d failed%s", requests, took.Round(100*time.Millisecond), failed, first)
	}
	return nil
}

// roll restarts a workload in every cluster, one cluster after the other.
func (j *journey) roll(ctx context.Context, workload, label string) error {
	return j.during(ctx, workload, func(ctx context.Context) error {
		for _, c := range j.clusters {
			before, err := c.running(ctx, label)
			if err != nil {
				return err
			}
			if _, err := c.kubectl(ctx, "", "-n", systemNamespace, "rollout", "restart", workload); err != nil {
				return err
			}
			if seen, ok := until(ctx, 3*time.Minute, c.replaced(label, before)); !ok {
				return fmt.Errorf("%s in %s: %s", workload, c.Name, seen)
			}
		}
		return nil
	})
}

// running gives the names of pods that are not about to end, and whether they are ready.
func (c *cluster) running(ctx context.Context, label string) (map[string]bool, error) {
	pods, err := c.clientset.CoreV1().Pods(systemNamespace).List(ctx, metav1.ListOptions{LabelSelector: label})
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for i := range pods.Items {
		if p := &pods.Items[i]; p.DeletionTimestamp == nil {
			found[p.Name] = slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue })
		}
	}
	return found, nil
}

// replaced asks whether as many others run in the place of some pods, and are ready. It is not "kubectl rollout status": that one waits for the old node proxy, which stays
// until its last connection has ended, or its drain time.
func (c *cluster) replaced(label string, before map[string]bool) func(context.Context) (string, bool) {
	return func(ctx context.Context) (string, bool) {
		now, err := c.running(ctx, label)
		if err != nil {
			return err.Error(), false
		}
		old, ready := 0, 0
		for name, isReady := range now {
			if _, was := before[name]; was {
				old++
			} else if isReady {
				ready++
			}
		}
		return fmt.Sprintf("%d new ones ready, %d old ones", ready, old), old == 0 && ready == len(before) && ready == len(now)
	}
}

func (j *journey) rollGateways(ctx context.Context) error {
	return j.roll(ctx, "deployment/"+gatewayName, "gateway.networking.k8s.io/gateway-name="+gatewayName)
}

func (j *journey) rollControllers(ctx context.Context) error {
	return j.roll(ctx, "deployment/isthmus-controller", "app=isthmus-controller")
}

func (j *journey) rollProxies(ctx context.Context) error {
	return j.roll(ctx, "daemonset/isthmus-nodeproxy", "app=isthmus-nodeproxy")
}

func (j *journey) rollAgents(ctx context.Context) error {
	return j.roll(ctx, "daemonset/isthmus-agent", "app=isthmus-agent")
}

// replaceCredentials gives every link a new token.
func (j *journey) replaceCredentials(ctx context.Context) error {
	return j.during(ctx, "new tokens for all links", func(ctx context.Context) error {
		for _, l := range j.links() {
			if err := link(ctx, l.reader, l.read); err != nil {
				return err
			}
		}
		for _, l := range j.links() {
			if seen, ok := until(ctx, 60*time.Second, l.reader.remoteReady(l.read.Name)); !ok {
				return fmt.Errorf("%s of %s: %s", l.read.Name, l.reader.Name, seen)
			}
		}
		return nil
	})
}

// relink takes the last cluster's Secret out of the others and puts it back.
func (j *journey) relink(ctx context.Context) error {
	gone := j.clusters[len(j.clusters)-1]
	others := j.clusters[:len(j.clusters)-1]
	return j.during(ctx, gone.Name+" is unlinked and linked again", func(ctx context.Context) error {
		for _, c := range others {
			if err := c.client.Delete(ctx, remoteSecret(gone.Name, nil)); err != nil {
				return err
			}
		}
		pause(ctx, noticed)
		began := time.Now()
		for _, s := range j.fresh(others) {
			answers := collect(ctx, s.Log, began, 30, 30*time.Second)
			j.Check(s.from+": "+gone.Name+" answers no more", len(answers) >= 30 && answers.By(traffic.Cluster)[gone.Name] == 0, "%s", traffic.Counts(answers.By(traffic.Cluster)))
		}
		for _, c := range others {
			if err := link(ctx, c, gone); err != nil {
				return err
			}
		}
		began = time.Now()
		for _, s := range j.fresh(others) {
			answers := collectUntil(ctx, s.Log, began, 60*time.Second, func(rs traffic.Results) bool { return rs.By(traffic.Cluster)[gone.Name] > 0 })
			j.Check(s.from+": "+gone.Name+" answers again", answers.By(traffic.Cluster)[gone.Name] > 0, "%s", traffic.Counts(answers.By(traffic.Cluster)))
		}
		return nil
	})
}

// fresh are the streams of new connections from some clusters.
func (j *journey) fresh(from []*cluster) (all []*stream) {
	for _, s := range j.loads {
		for _, c := range from {
			if s.from == c.Name && !s.kept {
				all = append(all, s)
			}
		}
	}
	return all
}

// lose kills the last cluster's only node: its gateway, its pods and its proxy, while its API server goes on to say for a while that all are well.
func (j *journey) lose(ctx context.Context) error {
	lost := j.clusters[len(j.clusters)-1]
	others := j.clusters[:len(j.clusters)-1]
	node := lost.Nodes()[0]
	if err := node.Kill(); err != nil {
		return err
	}
	killed := time.Now()
	pause(ctx, recovered)
	began := time.Now()
	for _, s := range j.fresh(others) {
		after := collect(ctx, s.Log, began, 100, 60*time.Second)
		during, _ := s.Since(killed)
		j.Check(s.from+": from "+recovered.String()+" on no request fails", len(after) >= 100 && len(after.Failed()) == 0,
			"%s; %s; %d of %d failed since the loss", traffic.Counts(after.By(traffic.Cluster)), failures(after), len(during.Failed()), len(during))
	}
	if err := node.Start(ctx); err != nil {
		return err
	}
	back := time.Now()
	for _, s := range j.fresh(others) {
		answers := collectUntil(ctx, s.Log, back, returned, func(rs traffic.Results) bool { return rs.By(traffic.Cluster)[lost.Name] > 0 })
		took, ok := firstFrom(answers, lost.Name, back)
		j.Check(s.from+": "+lost.Name+" answers again", ok, "after %s; %s", took.Round(100*time.Millisecond), failures(answers))
	}
	return nil
}

// firstFrom finds how long after began a cluster answered first.
func firstFrom(rs traffic.Results, name string, began time.Time) (time.Duration, bool) {
	for _, r := range rs {
		if r.Error == "" && r.Cluster == name {
			return r.Start.Add(r.Took).Sub(began), true
		}
	}
	return 0, false
}
