// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/test/e2e/traffic"
)

// unlink takes east's Secret out of west and puts it back, under traffic.
func (d *demo) unlink(ctx context.Context) error {
	var secret corev1.Secret
	if err := d.west.client.Get(ctx, client.ObjectKey{Namespace: systemNamespace, Name: "isthmus-remote-east"}, &secret); err != nil {
		return err
	}
	if err := d.awaitBoth(ctx, d.west, helloURL); err != nil {
		return err
	}
	s, err := startStream(ctx, d.west, helloURL, d.marker, requestEvery)
	if err != nil {
		return err
	}
	defer s.stop()
	collect(ctx, s.Log, time.Time{}, 50, 30*time.Second)

	if err := d.west.client.Delete(ctx, secret.DeepCopy()); err != nil {
		return err
	}
	pause(ctx, noticed)
	began := time.Now()
	local := collect(ctx, s.Log, began, 100, 20*time.Second)
	d.Check("secret removed: east's endpoints have left west within 2 s", onlyFrom(local, "west"), "%s", traffic.Counts(local.By(traffic.Cluster)))
	seen, ok := until(ctx, 5*time.Second, func(ctx context.Context) (string, bool) {
		answers, err := request(ctx, d.west, onlyEastURL, d.marker, 3, 10*time.Millisecond)
		if err != nil {
			return err.Error(), false
		}
		return failures(answers), len(answers.Failed()) == len(answers)
	})
	d.Check("and only-east is unknown in west", ok, "%s", seen)

	if err := d.west.client.Create(ctx, remoteSecret("east", secret.Data["east"])); err != nil {
		return err
	}
	returned := collectUntil(ctx, s.Log, time.Now(), 30*time.Second, func(rs traffic.Results) bool { return len(rs.By(traffic.Cluster)) == 2 })
	d.Check("secret put back: east's endpoints return", len(returned.By(traffic.Cluster)) == 2, "%s", traffic.Counts(returned.By(traffic.Cluster)))
	seen, ok = until(ctx, 20*time.Second, d.answersFrom(d.west, onlyEastURL, "east"))
	d.Check("and only-east is reached again", ok, "%s", seen)
	s.stop()
	all, _ := s.Since(time.Time{})
	d.Check("no request failed through all of it", len(all.Failed()) == 0, "%d requests, %s", len(all), failures(all))

	if err := d.checkPods(ctx); err != nil {
		return err
	}
	return d.checkIsolation(ctx)
}

// checkPods compares with the pods that were there when everything had been installed. What the steps themselves scaled
// or added is left out, but for restarts.
func (d *demo) checkPods(ctx context.Context) error {
	now, err := d.pods(ctx)
	if err != nil {
		return err
	}
	restarts := int32(0)
	for _, n := range now {
		restarts += n
	}
	d.Check("no container was restarted since the installation", restarts == 0, "%d pods, %d restarts", len(now), restarts)
	if d.installed == nil {
		return nil // an earlier run installed
	}
	maps.DeleteFunc(now, func(key string, _ int32) bool {
		return strings.Contains(key, "/demo/hello-") || strings.Contains(key, "/demo/only-east-")
	})
	before := maps.Clone(d.installed)
	maps.DeleteFunc(before, func(key string, _ int32) bool { return strings.Contains(key, "/demo/hello-") })
	d.Check("no pod of ours or of the client's was replaced", maps.Equal(before, now), "%s", comparePods(before, now))
	return nil
}

// pods gives the restart count of every pod of ours and of the app's, by cluster, name and UID.
func (d *demo) pods(ctx context.Context) (map[string]int32, error) {
	restarts := map[string]int32{}
	for _, c := range d.clusters {
		for _, namespace := range []string{systemNamespace, demoNamespace} {
			pods, err := c.clientset.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
			if err != nil {
				return nil, err
			}
			for _, p := range pods.Items {
				key := fmt.Sprintf("%s/%s/%s/%s", c.Name, namespace, p.Name, p.UID)
				restarts[key] = 0
				for _, s := range p.Status.ContainerStatuses {
					restarts[key] += s.RestartCount
				}
			}
		}
	}
	return restarts, nil
}

func comparePods(before, after map[string]int32) string {
	if maps.Equal(before, after) {
		return fmt.Sprintf("%d pods, the same as after the installation", len(after))
	}
	for key, n := range before {
		if m, ok := after[key]; !ok {
			return key + " is gone"
		} else if m != n {
			return fmt.Sprintf("%s was restarted %d times", key, m-n)
		}
	}
	return "there are new pods"
}

// checkIsolation shows that the clusters' networks are as they were: what is not a node or a gateway is still out of reach.
func (d *demo) checkIsolation(ctx context.Context) error {
	pods, err := d.east.clientset.CoreV1().Pods(demoNamespace).List(ctx, metav1.ListOptions{LabelSelector: "app=hello"})
	if err != nil {
		return err
	}
	if len(pods.Items) == 0 {
		return fmt.Errorf("no hello pod in east")
	}
	address := pods.Items[0].Status.PodIP + ":8080"
	dialling, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	conn, err := d.lab.Dial(dialling, "tcp", address)
	if err == nil {
		_ = conn.Close()
	}
	d.Check("no pod address is reachable over the WAN, as before", err != nil, "dial %s from the WAN: %v", address, err)
	return nil
}
