// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// installAll installs on every cluster, links each with every other one, and waits until everything says that it is ready.
func (s *stage) installAll(ctx context.Context) error {
	var err error
	if s.root, err = newRootCA(); err != nil {
		return err
	}
	if err := s.each(func(c *cluster) error {
		if err := install(ctx, c, s.root, s.Repository, s.Scratch); err != nil {
			return err
		}
		for _, manifest := range []string{gatewayManifest, appManifest} {
			if err := c.apply(ctx, manifest); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	for _, l := range s.links() {
		if err := link(ctx, l.reader, l.read); err != nil {
			return err
		}
	}
	s.Note("installed, waiting for everything to be ready")

	for _, c := range s.clusters {
		for _, w := range []struct {
			what string
			ask  func(context.Context) (string, bool)
		}{
			{"controller is available", c.deploymentReady(systemNamespace, "isthmus-controller")},
			{"agent runs on every node", c.daemonSetReady("isthmus-agent")},
			{"node proxy runs on every node", c.daemonSetReady("isthmus-nodeproxy")},
			{"GatewayClass eastwest is Accepted", c.classAccepted(gatewayName)},
			{"ServiceScope default is Accepted", c.scopeAccepted("default")},
			{"Gateway is Accepted and Programmed with an address", c.gatewayProgrammed()},
			{"the gateway's Deployment, Service and ServiceAccount were provisioned", c.gatewayProvisioned()},
			{"the app runs", c.deploymentReady(demoNamespace, "hello")},
			{"the client runs", c.deploymentReady(demoNamespace, "client")},
		} {
			seen, ok := until(ctx, 90*time.Second, w.ask)
			if !s.Check(c.Name+": "+w.what, ok, "%s", seen) {
				return fmt.Errorf("%s: %s: %s", c.Name, w.what, seen)
			}
		}
	}
	for _, l := range s.links() {
		seen, ok := until(ctx, 60*time.Second, l.reader.remoteReady(l.read.Name))
		if !s.Check(fmt.Sprintf("%s: RemoteCluster %s is Ready", l.reader.Name, l.read.Name), ok, "%s", seen) {
			return fmt.Errorf("link %s to %s: %s", l.reader.Name, l.read.Name, seen)
		}
	}
	return s.checkRoot(ctx)
}

// clusterLink is that one cluster reads another one.
type clusterLink struct{ reader, read *cluster }

// links are those of everybody with everybody.
func (s *stage) links() (all []clusterLink) {
	for _, reader := range s.clusters {
		for _, read := range s.clusters {
			if reader != read {
				all = append(all, clusterLink{reader, read})
			}
		}
	}
	return all
}

// checkRoot shows that the workloads of all clusters trust one root.
func (s *stage) checkRoot(ctx context.Context) error {
	roots := map[string]bool{}
	for _, c := range s.clusters {
		var cm corev1.ConfigMap
		if err := c.client.Get(ctx, client.ObjectKey{Namespace: systemNamespace, Name: "istio-ca-root-cert"}, &cm); err != nil {
			return err
		}
		roots[cm.Data["root-cert.pem"]] = true
	}
	s.Check("one root CA in all clusters", len(roots) == 1 && !roots[""], "%d different ones in %d clusters", len(roots), len(s.clusters))
	return nil
}
