// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/test/e2e/traffic"
)

// onlyEast calls a service of east from west, where nothing of it exists.
func (d *demo) onlyEast(ctx context.Context) error {
	before, err := d.west.objects(ctx)
	if err != nil {
		return err
	}
	if err := d.east.apply(ctx, onlyEastManifest); err != nil {
		return err
	}
	if seen, ok := until(ctx, 60*time.Second, d.east.deploymentReady(demoNamespace, "only-east")); !ok {
		return fmt.Errorf("only-east in east: %s", seen)
	}
	seen, ok := until(ctx, 20*time.Second, d.answersFrom(d.west, onlyEastURL, "east"))
	d.Check("west's client reaches only-east.demo.svc.cluster.local", ok, "%s", seen)
	answers, err := request(ctx, d.west, onlyEastURL, d.marker, 50, 20*time.Millisecond)
	if err != nil {
		return err
	}
	d.Check("and goes on reaching it", onlyFrom(answers, "east"), "%s; %s", traffic.Counts(answers.By(traffic.Cluster)), failures(answers))
	after, err := d.west.objects(ctx)
	if err != nil {
		return err
	}
	d.Check("no object was made in west for it", slices.Equal(before, after), "services and endpoint slices in west's demo namespace: %s", strings.Join(after, ", "))
	return nil
}

// answersFrom asks whether a few requests are all answered by one cluster.
func (d *demo) answersFrom(c *cluster, url, by string) func(context.Context) (string, bool) {
	return func(ctx context.Context) (string, bool) {
		answers, err := request(ctx, c, url, d.marker, 5, 10*time.Millisecond)
		if err != nil {
			return err.Error(), false
		}
		return fmt.Sprintf("%s; %s", traffic.Counts(answers.By(traffic.Cluster)), failures(answers)), onlyFrom(answers, by)
	}
}

// objects names what the demo's namespace holds of the kinds that a stub would be made of.
func (c *cluster) objects(ctx context.Context) ([]string, error) {
	var names []string
	for _, list := range []client.ObjectList{&corev1.ServiceList{}, &discoveryv1.EndpointSliceList{}} {
		if err := c.client.List(ctx, list, client.InNamespace(demoNamespace)); err != nil {
			return nil, err
		}
		items, err := meta.ExtractList(list)
		if err != nil {
			return nil, err
		}
		for _, item := range items {
			o, ok := item.(client.Object)
			if !ok {
				return nil, errors.New("a list holds something that is no object")
			}
			names = append(names, o.GetName())
		}
	}
	slices.Sort(names)
	return names, nil
}
