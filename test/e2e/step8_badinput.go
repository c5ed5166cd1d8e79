// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	_ "embed"
	"fmt"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
	"github.com/isthmus-mesh/isthmus/test/e2e/traffic"
)

//go:embed manifests/bad.yaml
var badManifest string

// refusedWrites are manifests that the API server must not take, with what its message must name.
var refusedWrites = []struct{ name, manifest, names string }{
	{"a ServiceScope with an unknown scope", `{apiVersion: isthmus.dev/v1alpha1, kind: ServiceScope, metadata: {name: bad}, spec: {serviceScopeConfigs: [{scope: EVERYWHERE}]}}`,
		"spec.serviceScopeConfigs[0].scope"},
	{"a ServiceScope with an invalid selector", `{apiVersion: isthmus.dev/v1alpha1, kind: ServiceScope, metadata: {name: bad}, spec: {serviceScopeConfigs: [{scope: GLOBAL, servicesSelector: {matchExpressions: [{key: a, operator: In}]}}]}}`,
		"spec.serviceScopeConfigs[0].servicesSelector.matchExpressions[0].values"},
}

// badInput gives west everything that it must refuse, all at once, while requests flow; then east loses its gateway.
func (d *demo) badInput(ctx context.Context) error {
	if err := d.awaitBoth(ctx, d.west, helloURL); err != nil {
		return err
	}
	s, err := startStream(ctx, d.west, helloURL, d.marker, requestEvery)
	if err != nil {
		return err
	}
	defer s.stop()
	for _, w := range refusedWrites {
		_, err := d.west.kubectl(ctx, w.manifest, "apply", "-f", "-")
		d.Check(w.name+" is refused, and the field is named", err != nil && strings.Contains(err.Error(), w.names), "%v", firstLine(err))
	}
	secrets, err := d.badSecrets(ctx)
	if err != nil {
		return err
	}
	if err := d.west.apply(ctx, badManifest); err != nil {
		return err
	}
	for _, b := range secrets {
		if err := putSecret(ctx, d.west, b.secret); err != nil {
			return err
		}
	}
	for _, b := range secrets {
		seen, ok := until(ctx, 30*time.Second, d.west.secretRefused(b.secret.Name, b.reason))
		d.Check(b.name+": its RemoteCluster says "+b.reason, ok, "%s", seen)
	}
	for _, g := range []struct{ gateway, condition, reason, names string }{
		{"bad-protocol", "listener Accepted", "UnsupportedProtocol", "CARRIER-PIGEON"},
		{"bad-option", "listener Accepted", "UnsupportedValue", "gateway.istio.io/tls-terminate-mode"},
		{"taken-address", "Programmed", "AddressNotUsable", "isthmus-system/eastwest"},
		{"side-door", "listener Accepted", "NamespaceNotPermitted", "isthmus.dev/eastwest-gateways"},
	} {
		seen, ok := until(ctx, 20*time.Second, d.west.gatewayRefused(g.gateway, g.condition, g.reason, g.names))
		d.Check(fmt.Sprintf("Gateway %s: %s=False %s", g.gateway, g.condition, g.reason), ok, "%s", seen)
	}
	seen, ok := until(ctx, 20*time.Second, d.west.serviceExplained("no-ports"))
	d.Check("a global service without ports says so", ok, "%s", seen)

	pause(ctx, noticed)
	began := time.Now()
	answers := collect(ctx, s.Log, began, 100, 20*time.Second)
	d.Check("everything else keeps working", len(answers.By(traffic.Cluster)) == 2 && len(answers.Failed()) == 0, "%s; %s", traffic.Counts(answers.By(traffic.Cluster)), failures(answers))

	if err := d.loseGateway(ctx, s); err != nil {
		return err
	}
	s.stop()
	all, _ := s.Since(time.Time{})
	d.Check("no request failed through all of it", len(all.Failed()) == 0, "%d requests, %s", len(all), failures(all))
	return d.removeBad(ctx, secrets)
}

// loseGateway leaves east without a running gateway: its node takes no new pods and the old ones are killed.
func (d *demo) loseGateway(ctx context.Context, s *stream) error {
	if err := d.east.cordon(ctx, true); err != nil {
		return err
	}
	defer func() { _ = d.east.cordon(context.WithoutCancel(ctx), false) }()
	now := int64(0)
	if err := d.east.clientset.CoreV1().Pods(systemNamespace).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &now},
		metav1.ListOptions{LabelSelector: "gateway.networking.k8s.io/gateway-name=" + gatewayName}); err != nil {
		return err
	}
	seen, ok := until(ctx, 20*time.Second, func(ctx context.Context) (string, bool) {
		var gw gatewayv1.Gateway
		if err := d.east.client.Get(ctx, client.ObjectKey{Namespace: systemNamespace, Name: gatewayName}, &gw); err != nil {
			return err.Error(), false
		}
		seen, programmed := conditions(gw.Status.Conditions, "Programmed")
		return seen, !programmed
	})
	d.Check("east's gateway is down: its Gateway says so", ok, "%s", seen)
	pause(ctx, noticed)
	began := time.Now()
	local := collect(ctx, s.Log, began, 50, 20*time.Second)
	d.Check("and west is answered by west", onlyFrom(local, "west"), "%s; %s", traffic.Counts(local.By(traffic.Cluster)), failures(local))

	if err := d.east.cordon(ctx, false); err != nil {
		return err
	}
	seen, ok = until(ctx, 60*time.Second, d.east.gatewayProgrammed())
	if !ok {
		return fmt.Errorf("east's gateway did not come back: %s", seen)
	}
	began = time.Now()
	back := collectUntil(ctx, s.Log, began, 20*time.Second, func(rs traffic.Results) bool { return len(rs.By(traffic.Cluster)) == 2 })
	d.Check("the gateway is back: both clusters answer again", len(back.By(traffic.Cluster)) == 2, "%s", traffic.Counts(back.By(traffic.Cluster)))
	return nil
}

type badSecret struct {
	name   string
	secret *corev1.Secret
	reason string
}

// badSecrets are kubeconfigs that must not be used, each with the reason that must be said.
func (d *demo) badSecrets(ctx context.Context) ([]badSecret, error) {
	east, err := remoteKubeconfig(ctx, d.east)
	if err != nil {
		return nil, err
	}
	west, err := remoteKubeconfig(ctx, d.west)
	if err != nil {
		return nil, err
	}
	token, err := d.east.clientset.CoreV1().ServiceAccounts(demoNamespace).CreateToken(ctx, "client", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	changed := func(change func(*clientcmdapi.Cluster, *clientcmdapi.AuthInfo)) []byte {
		config, loadErr := clientcmd.Load(east)
		if loadErr != nil {
			err = loadErr
			return nil
		}
		change(config.Clusters["east"], config.AuthInfos["isthmus-reader"])
		data, writeErr := clientcmd.Write(*config)
		if writeErr != nil {
			err = writeErr
		}
		return data
	}
	var bad []badSecret
	for _, b := range []struct {
		name, id   string
		kubeconfig []byte
		reason     string
	}{
		{"a broken kubeconfig", "broken", []byte("this is: [not a kubeconfig"), v1alpha1.ReasonInvalidKubeconfig},
		{"an unreachable API server", "unreachable", changed(func(c *clientcmdapi.Cluster, _ *clientcmdapi.AuthInfo) { c.Server = "https://10.89.1.99:6443" }), v1alpha1.ReasonUnreachable},
		{"credentials without rights", "forbidden", changed(func(_ *clientcmdapi.Cluster, a *clientcmdapi.AuthInfo) { a.Token = token.Status.Token }), v1alpha1.ReasonForbidden},
		{"credentials that are not accepted", "unauthorized", changed(func(_ *clientcmdapi.Cluster, a *clientcmdapi.AuthInfo) { a.Token = "nonsense" }), v1alpha1.ReasonUnauthorized},
		{"a program to run", "exec", changed(func(_ *clientcmdapi.Cluster, a *clientcmdapi.AuthInfo) {
			a.Token, a.Exec = "", &clientcmdapi.ExecConfig{APIVersion: "client.authentication.k8s.io/v1", Command: "/bin/sh", InteractiveMode: clientcmdapi.NeverExecInteractiveMode}
		}), v1alpha1.ReasonForbiddenKubeconfig},
		{"a file to read", "file", changed(func(_ *clientcmdapi.Cluster, a *clientcmdapi.AuthInfo) { a.Token, a.TokenFile = "", "/etc/shadow" }), v1alpha1.ReasonForbiddenKubeconfig},
		{"an API server that is not verified", "insecure", changed(func(c *clientcmdapi.Cluster, _ *clientcmdapi.AuthInfo) {
			c.CertificateAuthorityData, c.InsecureSkipTLSVerify = nil, true
		}), v1alpha1.ReasonForbiddenKubeconfig},
		{"this very cluster", "myself", west, v1alpha1.ReasonSelf},
		{"a second Secret for east", "east", east, v1alpha1.ReasonDuplicate},
	} {
		secret := remoteSecret(b.id, b.kubeconfig)
		secret.Name = "bad-" + b.id
		bad = append(bad, badSecret{name: b.name, secret: secret, reason: b.reason})
	}
	return bad, err
}

// removeBad takes all of it away again.
func (d *demo) removeBad(ctx context.Context, secrets []badSecret) error {
	for _, b := range secrets {
		if err := client.IgnoreNotFound(d.west.client.Delete(ctx, b.secret)); err != nil {
			return err
		}
	}
	_, err := d.west.kubectl(ctx, badManifest, "delete", "--ignore-not-found", "-f", "-")
	if err != nil {
		return err
	}
	seen, ok := until(ctx, 20*time.Second, func(ctx context.Context) (string, bool) {
		var list v1alpha1.RemoteClusterList
		if err := d.west.client.List(ctx, &list); err != nil {
			return err.Error(), false
		}
		var names []string
		for _, r := range list.Items {
			names = append(names, r.Name)
		}
		return strings.Join(names, ", "), len(names) == 1 && names[0] == "east"
	})
	d.Check("with the Secrets gone, only the good RemoteCluster is left", ok, "%s", seen)
	return nil
}

func (c *cluster) secretRefused(secret, reason string) func(context.Context) (string, bool) {
	return func(ctx context.Context) (string, bool) {
		var list v1alpha1.RemoteClusterList
		if err := c.client.List(ctx, &list); err != nil {
			return err.Error(), false
		}
		for _, r := range list.Items {
			if r.Spec.SecretRef.Name != secret {
				continue
			}
			ready := meta.FindStatusCondition(r.Status.Conditions, v1alpha1.RemoteClusterReady)
			if ready == nil {
				return r.Name + ": Ready is not said", false
			}
			return fmt.Sprintf("%s: Ready=%s %s: %s", r.Name, ready.Status, ready.Reason, ready.Message), ready.Status == metav1.ConditionFalse && ready.Reason == reason
		}
		return "no RemoteCluster for Secret " + secret, false
	}
}

func (c *cluster) gatewayRefused(name, condition, reason, names string) func(context.Context) (string, bool) {
	return func(ctx context.Context) (string, bool) {
		var gw gatewayv1.Gateway
		if err := c.client.Get(ctx, client.ObjectKey{Namespace: demoNamespace, Name: name}, &gw); err != nil {
			return err.Error(), false
		}
		all := gw.Status.Conditions
		kind, ofListener := strings.CutPrefix(condition, "listener ")
		if ofListener {
			if len(gw.Status.Listeners) == 0 {
				return "no listener has a status", false
			}
			all = gw.Status.Listeners[0].Conditions
		}
		found := meta.FindStatusCondition(all, kind)
		if found == nil {
			return condition + " is not said", false
		}
		return fmt.Sprintf("%s=%s %s: %s", condition, found.Status, found.Reason, found.Message),
			found.Status == metav1.ConditionFalse && found.Reason == reason && strings.Contains(found.Message, names)
	}
}

func (c *cluster) serviceExplained(name string) func(context.Context) (string, bool) {
	return func(ctx context.Context) (string, bool) {
		var service corev1.Service
		if err := c.client.Get(ctx, client.ObjectKey{Namespace: demoNamespace, Name: name}, &service); err != nil {
			return err.Error(), false
		}
		for _, condition := range service.Status.Conditions {
			if condition.Reason == "NoPorts" {
				return condition.Message, condition.Status == metav1.ConditionFalse
			}
		}
		return "no condition", false
	}
}

// cordon keeps new pods away from the cluster's nodes, or lets them in again.
func (c *cluster) cordon(ctx context.Context, closed bool) error {
	var nodes corev1.NodeList
	if err := c.client.List(ctx, &nodes); err != nil {
		return err
	}
	for _, n := range nodes.Items {
		if err := c.client.Patch(ctx, &n, client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"spec":{"unschedulable":%v}}`, closed))); err != nil {
			return err
		}
	}
	return nil
}

// firstLine is the gist of an API server's refusal.
func firstLine(err error) string {
	if err == nil {
		return "it was accepted"
	}
	_, after, found := strings.Cut(err.Error(), "is invalid: ")
	if !found {
		after = err.Error()
	}
	line, _, _ := strings.Cut(strings.TrimLeft(after, "\n* "), "\n")
	return line
}
