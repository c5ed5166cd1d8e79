// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// processNames are all processes that a lab of this shape has.
func (l *Lab) processNames() []string {
	names := []string{"forward"}
	if l.record.Shape.WAN == WANEmulated {
		names = append(names, wanProcess)
	}
	for _, c := range l.clusters {
		names = append(names, machineName(c.Name, 0), loadBalancerProcess(c.Name))
		for _, n := range c.nodes {
			names = append(names, n.Name)
		}
	}
	return names
}

// Fault says what is wrong with the lab: a process that is gone, an API server that does not answer.
// A node that was killed is a fault; one that is merely not ready is Kubernetes' own business.
func (l *Lab) Fault(ctx context.Context) error {
	recorded, err := l.places.recorded()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range l.processNames() {
		if one, ok := recorded[name]; !ok || !one.alive() {
			errs = append(errs, fmt.Errorf("process %s is gone", name))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	// Generous: a lab that merely runs on a busy machine must not be taken for a broken one, which up would remove.
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return l.each(func(c *Cluster) error {
		client, err := c.client()
		if err != nil {
			return err
		}
		return c.ready(ctx, client)
	})
}

// Line is one row of a lab's status.
type Line struct {
	Name, Address, State string
}

// Status tells how every machine of the lab is. It does not fail: what cannot be asked is said in its line.
func (l *Lab) Status(ctx context.Context) []Line {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	recorded, err := l.places.recorded()
	if err != nil {
		return []Line{{Name: l.Name(), State: err.Error()}}
	}
	var lines []Line
	for _, c := range l.clusters {
		state := "ready"
		client, err := c.client()
		if err == nil {
			err = c.ready(ctx, client)
		}
		if err != nil {
			state = err.Error()
		}
		lines = append(lines, Line{Name: c.Name, Address: c.APIServer(), State: state})
		for _, n := range c.nodes {
			line := Line{Name: "  " + n.Name, Address: c.site.node(n.index).String(), State: "ready"}
			if one, ok := recorded[n.Name]; !ok || !one.alive() {
				line.State = "not running"
			} else if err == nil {
				if notReady := n.ready(ctx, client); notReady != nil {
					line.State = notReady.Error()
				}
			} else {
				line.State = "unknown"
			}
			lines = append(lines, line)
		}
		if err != nil {
			continue
		}
		services, err := client.CoreV1().Services(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
		if err != nil {
			lines = append(lines, Line{Name: "  services", State: err.Error()})
			continue
		}
		for _, s := range services.Items {
			for _, ingress := range s.Status.LoadBalancer.Ingress {
				lines = append(lines, Line{Name: "  " + s.Namespace + "/" + s.Name, Address: ingress.IP, State: "load balancer"})
			}
		}
	}
	for _, name := range l.processNames() {
		if one, ok := recorded[name]; !ok || !one.alive() {
			lines = append(lines, Line{Name: "process " + name, State: "gone"})
		}
	}
	return lines
}
