// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
)

// checkRanges shows that the clusters' networks overlap: without that, the demo would prove less.
func (d *demo) checkRanges(ctx context.Context) error {
	var ranges [2]string
	for i, c := range d.clusters {
		var nodes corev1.NodeList
		if err := c.client.List(ctx, &nodes); err != nil {
			return err
		}
		var service corev1.Service
		if err := c.client.Get(ctx, client.ObjectKey{Namespace: "default", Name: "kubernetes"}, &service); err != nil {
			return err
		}
		var cidrs []string
		for _, n := range nodes.Items {
			cidrs = append(cidrs, n.Spec.PodCIDR)
		}
		ranges[i] = fmt.Sprintf("pods %s, API service %s", strings.Join(cidrs, " "), service.Spec.ClusterIP)
	}
	d.Check("pod and service ranges are the same in both clusters", ranges[0] == ranges[1], "east: %s; west: %s", ranges[0], ranges[1])
	return nil
}

func (c *cluster) deploymentReady(namespace, name string) func(context.Context) (string, bool) {
	return func(ctx context.Context) (string, bool) {
		var dep appsv1.Deployment
		if err := c.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &dep); err != nil {
			return err.Error(), false
		}
		want := int32(1)
		if dep.Spec.Replicas != nil {
			want = *dep.Spec.Replicas
		}
		s := dep.Status
		ready := s.ObservedGeneration >= dep.Generation && s.ReadyReplicas == want && s.UpdatedReplicas == want && s.Replicas == want
		return fmt.Sprintf("%d of %d ready", s.ReadyReplicas, want), ready
	}
}

func (c *cluster) daemonSetReady(name string) func(context.Context) (string, bool) {
	return func(ctx context.Context) (string, bool) {
		var ds appsv1.DaemonSet
		if err := c.client.Get(ctx, client.ObjectKey{Namespace: systemNamespace, Name: name}, &ds); err != nil {
			return err.Error(), false
		}
		s := ds.Status
		ready := s.ObservedGeneration >= ds.Generation && s.DesiredNumberScheduled > 0 && s.NumberReady == s.DesiredNumberScheduled
		return fmt.Sprintf("%d of %d ready", s.NumberReady, s.DesiredNumberScheduled), ready
	}
}

func (c *cluster) classAccepted(name string) func(context.Context) (string, bool) {
	return func(ctx context.Context) (string, bool) {
		var class gatewayv1.GatewayClass
		if err := c.client.Get(ctx, client.ObjectKey{Name: name}, &class); err != nil {
			return err.Error(), false
		}
		return conditions(class.Status.Conditions, "Accepted")
	}
}

func (c *cluster) scopeAccepted(name string) func(context.Context) (string, bool) {
	return func(ctx context.Context) (string, bool) {
		var scope v1alpha1.ServiceScope
		if err := c.client.Get(ctx, client.ObjectKey{Name: name}, &scope); err != nil {
			return err.Error(), false
		}
		return conditions(scope.Status.Conditions, "Accepted")
	}
}

func (c *cluster) gatewayProgrammed() func(context.Context) (string, bool) {
	return func(ctx context.Context) (string, bool) {
		var gw gatewayv1.Gateway
		if err := c.client.Get(ctx, client.ObjectKey{Namespace: systemNamespace, Name: gatewayName}, &gw); err != nil {
			return err.Error(), false
		}
		seen, ok := conditions(gw.Status.Conditions, "Accepted", "Programmed")
		if len(gw.Status.Addresses) == 0 {
			return seen + ", no address", false
		}
		return seen + ", address " + gw.Status.Addresses[0].Value, ok
	}
}

func (c *cluster) gatewayProvisioned() func(context.Context) (string, bool) {
	return func(ctx context.Context) (string, bool) {
		var gw gatewayv1.Gateway
		key := client.ObjectKey{Namespace: systemNamespace, Name: gatewayName}
		if err := c.client.Get(ctx, key, &gw); err != nil {
			return err.Error(), false
		}
		for _, o := range []client.Object{&appsv1.Deployment{}, &corev1.Service{}, &corev1.ServiceAccount{}} {
			if err := c.client.Get(ctx, key, o); err != nil {
				return err.Error(), false
			}
			if !metav1.IsControlledBy(o, &gw) {
				return fmt.Sprintf("%T is not owned by the Gateway", o), false
			}
		}
		return c.deploymentReady(systemNamespace, gatewayName)(ctx)
	}
}

func (c *cluster) remoteReady(name string) func(context.Context) (string, bool) {
	return func(ctx context.Context) (string, bool) {
		var list v1alpha1.RemoteClusterList
		if err := c.client.List(ctx, &list); err != nil {
			return err.Error(), false
		}
		for _, r := range list.Items {
			if r.Status.ClusterID == name {
				seen, ok := conditions(r.Status.Conditions, "Connected", "Synced", "Ready")
				return fmt.Sprintf("%s, %d services, %d endpoints", seen, r.Status.Services, r.Status.Endpoints), ok
			}
		}
		return fmt.Sprintf("%d RemoteClusters, none of them %s", len(list.Items), name), false
	}
}

// conditions says what the named conditions are, and whether all are true.
func conditions(all []metav1.Condition, names ...string) (string, bool) {
	ok := true
	var seen []string
	for _, name := range names {
		c := meta.FindStatusCondition(all, name)
		switch {
		case c == nil:
			seen, ok = append(seen, name+" is not said"), false
		case c.Status != metav1.ConditionTrue:
			seen, ok = append(seen, fmt.Sprintf("%s=%s %s: %s", name, c.Status, c.Reason, c.Message)), false
		default:
			seen = append(seen, name)
		}
	}
	return strings.Join(seen, ", "), ok
}
