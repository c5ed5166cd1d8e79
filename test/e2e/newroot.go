// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// replaceRoot has all clusters trust a second root, then issue from it, as docs/discovery.md says; and then rolls the gateways, whose certificates are of the new root from then
// on, while those of the node proxies are still of the old one.
func (j *journey) replaceRoot(ctx context.Context) error {
	next, err := newRootCA()
	if err != nil {
		return err
	}
	both := slices.Concat(j.root.pem, next.pem)
	err = j.during(ctx, "a second root is trusted, and issues", func(ctx context.Context) error {
		for _, issuer := range []*rootCA{nil, next} {
			for _, c := range j.clusters {
				if err := c.replaceIssuer(ctx, issuer, both); err != nil {
					return err
				}
			}
			for _, c := range j.clusters {
				if seen, ok := until(ctx, 30*time.Second, c.trusts(both)); !ok {
					return fmt.Errorf("%s: %s", c.Name, seen)
				}
			}
			pause(ctx, noticed) // until it has reached the proxies
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := j.rollGateways(ctx); err != nil {
		return err
	}
	for _, c := range j.clusters {
		seen, ok := until(ctx, 30*time.Second, j.proves(c, next))
		j.Check(c.Name+": its gateways prove who they are by the new root", ok, "%s", seen)
	}
	return nil
}

// proves asks whether a cluster's gateway shows a certificate that a root vouches for. Whoever asks shows none, and gets no further.
func (j *journey) proves(c *cluster, root *rootCA) func(context.Context) (string, bool) {
	return func(ctx context.Context) (string, bool) {
		var gw gatewayv1.Gateway
		if err := c.client.Get(ctx, client.ObjectKey{Namespace: systemNamespace, Name: gatewayName}, &gw); err != nil {
			return err.Error(), false
		}
		if len(gw.Status.Addresses) == 0 {
			return "it has no address", false
		}
		nc, err := j.lab.Dial(ctx, "tcp", net.JoinHostPort(gw.Status.Addresses[0].Value, "15008"))
		if err != nil {
			return err.Error(), false
		}
		defer nc.Close()
		var shown []*x509.Certificate
		secured := tls.Client(nc, &tls.Config{
			InsecureSkipVerify: true, //nolint:gosec // what it shows is looked at below
			NextProtos:         []string{"h2"},
			VerifyConnection:   func(state tls.ConnectionState) error { shown = state.PeerCertificates; return nil },
		})
		if err := secured.HandshakeContext(ctx); err != nil && len(shown) == 0 {
			return err.Error(), false
		}
		roots, between := x509.NewCertPool(), x509.NewCertPool()
		roots.AddCert(root.cert)
		for _, cert := range shown[1:] {
			between.AddCert(cert)
		}
		if _, err := shown[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
			return err.Error(), false
		}
		return fmt.Sprintf("%d certificates up to %s", len(shown), shown[len(shown)-1].Issuer), true
	}
}

// replaceIssuer has a cluster trust some roots, and issue below one of them unless that is nil.
func (c *cluster) replaceIssuer(ctx context.Context, issuer *rootCA, roots []byte) error {
	var secret corev1.Secret
	if err := c.client.Get(ctx, client.ObjectKey{Namespace: systemNamespace, Name: "cacerts"}, &secret); err != nil {
		return err
	}
	if issuer != nil {
		data, err := issuer.cacerts(c.Name)
		if err != nil {
			return err
		}
		secret.Data = data
	}
	secret.Data["root-cert.pem"] = roots
	return c.client.Update(ctx, &secret)
}

// trusts asks whether a cluster's workloads are told these roots.
func (c *cluster) trusts(roots []byte) func(context.Context) (string, bool) {
	return func(ctx context.Context) (string, bool) {
		var cm corev1.ConfigMap
		if err := c.client.Get(ctx, client.ObjectKey{Namespace: systemNamespace, Name: "istio-ca-root-cert"}, &cm); err != nil {
			return err.Error(), false
		}
		told := cm.Data["root-cert.pem"]
		return fmt.Sprintf("%d bytes of PEM, want %d", len(told), len(roots)), strings.Count(told, "BEGIN CERTIFICATE") == bytes.Count(roots, []byte("BEGIN CERTIFICATE"))
	}
}
