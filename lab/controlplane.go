// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"
)

// runControlPlane runs etcd, the API server, the controller manager and the scheduler, until ctx ends.
func (c *Cluster) runControlPlane(ctx context.Context, s *supervisor) error {
	pki := func(file string) string { return c.places.pki(c.Name, file) }
	tool := c.places.tool
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() {
		s.keep(ctx, "etcd", tool("etcd"), "--data-dir", c.places.box(c.Name, machineName(c.Name, 0), "etcd"),
			"--listen-client-urls", "http://127.0.0.1:2379", "--advertise-client-urls", "http://127.0.0.1:2379",
			"--listen-peer-urls", "http://127.0.0.1:2380", "--initial-advertise-peer-urls", "http://127.0.0.1:2380",
			"--initial-cluster", "default=http://127.0.0.1:2380", "--unsafe-no-fsync", "--log-level", "warn")
	})
	running.Go(func() {
		s.keep(ctx, "kube-apiserver", tool("kube-apiserver"), "--etcd-servers=http://127.0.0.1:2379",
			"--advertise-address="+c.site.controlPlane().String(), "--bind-address=0.0.0.0", fmt.Sprintf("--secure-port=%d", apiServerPort),
			"--service-cluster-ip-range="+serviceRange,
			"--tls-cert-file="+pki("apiserver.crt"), "--tls-private-key-file="+pki("apiserver.key"), "--client-ca-file="+pki("ca.crt"),
			"--kubelet-client-certificate="+pki("apiserver-kubelet-client.crt"), "--kubelet-client-key="+pki("apiserver-kubelet-client.key"),
			"--kubelet-certificate-authority="+pki("ca.crt"), "--kubelet-preferred-address-types=InternalIP",
			"--service-account-issuer=https://kubernetes.default.svc."+clusterDomain,
			"--service-account-key-file="+pki("sa.pub"), "--service-account-signing-key-file="+pki("sa.key"),
			"--requestheader-client-ca-file="+pki("front-proxy-ca.crt"), "--requestheader-allowed-names=front-proxy-client",
			"--requestheader-extra-headers-prefix=X-Remote-Extra-", "--requestheader-group-headers=X-Remote-Group",
			"--requestheader-username-headers=X-Remote-User",
			"--proxy-client-cert-file="+pki("front-proxy-client.crt"), "--proxy-client-key-file="+pki("front-proxy-client.key"),
			// Webhooks and aggregated APIs are called by endpoint address: there is no kube-proxy here.
			"--enable-aggregator-routing=true",
			"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true")
	})
	// Both of the others exit if they come before the API server has made its bootstrap roles.
	if err := c.waitReady(ctx, "https://127.0.0.1:6443/readyz"); err != nil {
		return err
	}
	running.Go(func() {
		config := pki("controller-manager.kubeconfig")
		s.keep(ctx, "kube-controller-manager", tool("kube-controller-manager"), "--kubeconfig="+config,
			"--authentication-kubeconfig="+config, "--authorization-kubeconfig="+config, "--leader-elect=false",
			"--use-service-account-credentials=true", "--root-ca-file="+pki("ca.crt"),
			"--service-account-private-key-file="+pki("sa.key"),
			"--cluster-signing-cert-file="+pki("ca.crt"), "--cluster-signing-key-file="+pki("ca.key"),
			"--allocate-node-cidrs=false", // the lab says which node has which, see nodeRange
			"--bind-address=127.0.0.1",
			// Its default of 20 requests per second makes the first service account wait 4 s longer.
			"--kube-api-qps=500", "--kube-api-burst=1000")
	})
	running.Go(func() {
		config := pki("scheduler.kubeconfig")
		s.keep(ctx, "kube-scheduler", tool("kube-scheduler"), "--kubeconfig="+config,
			"--authentication-kubeconfig="+config, "--authorization-kubeconfig="+config, "--leader-elect=false", "--bind-address=127.0.0.1")
	})
	<-ctx.Done()
	return ctx.Err()
}

// waitReady waits until the API server answers 200 at url. Anyone may ask for /readyz once the bootstrap roles exist.
func (c *Cluster) waitReady(ctx context.Context, url string) error {
	ca, err := os.ReadFile(c.places.pki(c.Name, "ca.crt"))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return errors.New("the cluster's ca.crt holds no certificate")
	}
	client := http.Client{
		Timeout:   5 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}},
	}
	defer client.CloseIdleConnections()
	return poll(ctx, 50*time.Millisecond, func() error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s", url, response.Status)
		}
		return nil
	})
}
