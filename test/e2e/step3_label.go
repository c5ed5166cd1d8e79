// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/test/e2e/traffic"
)

const (
	globalLabel = "istio.io/global"
	// noticed is how soon a label must be seen in the answers.
	noticed = 2 * time.Second
	// requestEvery is the pace of the demo's streams: every request is a new connection.
	requestEvery = 40 * time.Millisecond
)

// labelService calls one service from both clusters while its label comes and goes.
func (d *demo) labelService(ctx context.Context) error {
	for _, c := range d.clusters {
		s, err := startStream(ctx, c, helloURL, d.marker, requestEvery)
		if err != nil {
			return err
		}
		defer s.stop()
		if err := d.followLabel(ctx, c, s); err != nil {
			return err
		}
		s.stop()
	}
	return nil
}

// followLabel watches one client through the three states. The label is set in both clusters.
func (d *demo) followLabel(ctx context.Context, c *cluster, s *stream) error {
	first := collect(ctx, s.Log, time.Time{}, 1, 30*time.Second)
	if len(first) == 0 {
		return fmt.Errorf("the client in %s said nothing: %s", c.Name, s.stderr.String())
	}
	began := time.Now()
	local := collect(ctx, s.Log, began, 50, 20*time.Second)
	d.Check(c.Name+": not global, answered by its own cluster only", onlyFrom(local, c.Name) && len(local) >= 50, "%s; %s", traffic.Counts(local.By(traffic.Cluster)), failures(local))

	began = time.Now()
	if err := d.setGlobal(ctx, true); err != nil {
		return err
	}
	change := collectUntil(ctx, s.Log, began, 20*time.Second, func(rs traffic.Results) bool { return len(rs.By(traffic.Cluster)) == 2 })
	took, ok := firstFromOther(change, c.Name, began)
	d.Check(c.Name+": labelled global, the other cluster answers within 2 s", ok && took <= noticed, "first answer after %s; %s", took.Round(time.Millisecond), failures(change))

	// Evenness is judged once both clusters know.
	pause(ctx, noticed)
	began = time.Now()
	const sample = 300
	spread := collect(ctx, s.Log, began, sample, 40*time.Second)
	counts := spread.By(traffic.Pod)
	d.Check(c.Name+": answers come evenly from the 4 pods of both clusters", len(counts) == 4 && even(counts), "%s; %s", traffic.Counts(counts), failures(spread))

	if err := d.setGlobal(ctx, false); err != nil {
		return err
	}
	pause(ctx, noticed)
	later := time.Now()
	local = collect(ctx, s.Log, later, 50, 20*time.Second)
	d.Check(c.Name+": label removed, local only again within 2 s", onlyFrom(local, c.Name) && len(local) >= 50, "%s", traffic.Counts(local.By(traffic.Cluster)))

	all, _ := s.Since(time.Time{})
	d.Check(c.Name+": no request failed through all of it", len(all.Failed()) == 0, "%d requests, %s", len(all), failures(all))
	return nil
}

// setGlobal labels the service in all clusters, or removes the label.
func (s *stage) setGlobal(ctx context.Context, global bool) error {
	value := "null"
	if global {
		value = `"true"`
	}
	return s.each(func(c *cluster) error {
		return c.patchService(ctx, "hello", fmt.Sprintf(`{"metadata":{"labels":{%q:%s}}}`, globalLabel, value))
	})
}

func (c *cluster) patchService(ctx context.Context, name, patch string) error {
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: demoNamespace, Name: name}}
	if err := c.client.Patch(ctx, service, client.RawPatch("application/merge-patch+json", []byte(patch))); err != nil {
		return fmt.Errorf("service %s in %s: %w", name, c.Name, err)
	}
	return nil
}

// onlyFrom says that every request was answered, and by this cluster.
func onlyFrom(rs traffic.Results, name string) bool {
	counts := rs.By(traffic.Cluster)
	return len(rs) > 0 && counts[name] == len(rs)
}

// firstFromOther finds how long after began the other cluster answered first.
func firstFromOther(rs traffic.Results, own string, began time.Time) (time.Duration, bool) {
	best, found := time.Duration(0), false
	for _, r := range rs {
		if at := r.Start.Add(r.Took).Sub(began); r.Error == "" && r.Cluster != own && (!found || at < best) {
			best, found = at, true
		}
	}
	return best, found
}

// even allows each pod's share to be off by 40 %. With 300 requests over 4 pods a share is 75 ± 7.5 (binomial, one
// standard deviation), so an even choice is outside of this in one run of 16,000, and a missing, doubled or halved
// share is always seen.
func even(counts map[string]int) bool {
	total := 0
	for _, n := range counts {
		total += n
	}
	mean := float64(total) / float64(len(counts))
	for _, n := range counts {
		if float64(n) < 0.6*mean || float64(n) > 1.4*mean {
			return false
		}
	}
	return true
}

// failures says how many requests failed, and how the first one did.
func failures(rs traffic.Results) string {
	failed := rs.Failed()
	if len(failed) == 0 {
		return "0 failed"
	}
	return fmt.Sprintf("%d failed, the first at %s: %s", len(failed), failed[0].Start.Format("15:04:05.000"), failed[0].Error)
}
