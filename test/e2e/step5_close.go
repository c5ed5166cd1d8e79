// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/test/e2e/traffic"
)

// preferClose keeps requests local, takes the local pods away under traffic, and brings them back.
func (d *demo) preferClose(ctx context.Context) error {
	for _, c := range d.clusters {
		if err := c.patchService(ctx, "hello", `{"spec":{"trafficDistribution":"PreferClose"}}`); err != nil {
			return err
		}
	}
	s, err := startStream(ctx, d.west, helloURL, d.marker, requestEvery)
	if err != nil {
		return err
	}
	defer s.stop()
	collectUntil(ctx, s.Log, time.Time{}, 30*time.Second, func(rs traffic.Results) bool { return len(rs) > 0 })
	pause(ctx, noticed)
	began := time.Now()
	local := collect(ctx, s.Log, began, 100, 20*time.Second)
	d.Check("PreferClose: west is answered by west only", onlyFrom(local, "west"), "%s", traffic.Counts(local.By(traffic.Cluster)))

	if err := d.west.scale(ctx, "hello", 0); err != nil {
		return err
	}
	seen, gone := until(ctx, 60*time.Second, d.west.deploymentReady(demoNamespace, "hello"))
	if !gone {
		return fmt.Errorf("hello in west did not scale to 0: %s", seen)
	}
	began = time.Now()
	remote := collect(ctx, s.Log, began, 50, 20*time.Second)
	d.Check("no pod left in west: east answers", onlyFrom(remote, "east"), "%s; %s", traffic.Counts(remote.By(traffic.Cluster)), failures(remote))

	if err := d.west.scale(ctx, "hello", 2); err != nil {
		return err
	}
	if seen, ok := until(ctx, 60*time.Second, d.west.deploymentReady(demoNamespace, "hello")); !ok {
		return fmt.Errorf("hello in west did not scale to 2: %s", seen)
	}
	pause(ctx, noticed)
	began = time.Now()
	local = collect(ctx, s.Log, began, 100, 20*time.Second)
	d.Check("pods are back in west: west answers again", onlyFrom(local, "west"), "%s; %s", traffic.Counts(local.By(traffic.Cluster)), failures(local))
	s.stop()

	all, _ := s.Since(time.Time{})
	d.Check("no request failed, those begun before the last local pod ended included", len(all.Failed()) == 0, "%d requests without retries, %s", len(all), failures(all))
	for _, c := range d.clusters {
		if err := c.patchService(ctx, "hello", `{"spec":{"trafficDistribution":null}}`); err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) scale(ctx context.Context, name string, replicas int) error {
	dep := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: demoNamespace, Name: name}}
	patch := fmt.Sprintf(`{"spec":{"replicas":%d}}`, replicas)
	if err := c.client.Patch(ctx, dep, client.RawPatch("application/merge-patch+json", []byte(patch))); err != nil {
		return fmt.Errorf("scale %s in %s: %w", name, c.Name, err)
	}
	return nil
}
