// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
)

const kubeconfigForm = `apiVersion: v1
kind: Config
clusters:
- name: c
  cluster: {%s}
users:
- name: u
  user: {%s}
contexts:
- name: x
  context: {cluster: c, user: u}
- name: unused
  context: {cluster: nowhere, user: nobody}
current-context: x
`

func jwt(expiry time.Time) string {
	part := base64.RawURLEncoding.EncodeToString
	return part([]byte(`{}`)) + "." + part(fmt.Appendf(nil, `{"exp":%d}`, expiry.Unix())) + "." + part([]byte("sig"))
}

func TestParseKubeconfig(t *testing.T) {
	const server, token = "server: https://api.west:6443", "token: abc"
	for _, tc := range []struct {
		name, cluster, user string
		whole               string // instead of the form
		reason, message     string // empty: good
	}{
		{name: "good", cluster: server, user: token},
		{name: "good with name", cluster: server + ", tls-server-name: api", user: token},
		{name: "exec", cluster: server, user: `exec: {apiVersion: client.authentication.k8s.io/v1, command: sh, interactiveMode: Never}`,
			reason: v1alpha1.ReasonForbiddenKubeconfig, message: `users["u"].user.exec`},
		{name: "exec beside a token", cluster: server, user: token + `, exec: {apiVersion: client.authentication.k8s.io/v1, command: sh, interactiveMode: Never}`,
			reason: v1alpha1.ReasonForbiddenKubeconfig, message: `users["u"].user.exec`},
		{name: "auth provider", cluster: server, user: `auth-provider: {name: gcp}`, reason: v1alpha1.ReasonForbiddenKubeconfig, message: "auth-provider"},
		{name: "token file", cluster: server, user: `tokenFile: /var/run/secrets/x`, reason: v1alpha1.ReasonForbiddenKubeconfig, message: "tokenFile"},
		{name: "certificate file", cluster: server, user: `client-certificate: /x, client-key-data: eA==`, reason: v1alpha1.ReasonForbiddenKubeconfig, message: "client-certificate"},
		{name: "key file", cluster: server, user: `client-key: /x, client-certificate-data: eA==`, reason: v1alpha1.ReasonForbiddenKubeconfig, message: "client-key"},
		{name: "CA file", cluster: server + ", certificate-authority: /etc/passwd", user: token, reason: v1alpha1.ReasonForbiddenKubeconfig, message: "certificate-authority"},
		{name: "insecure", cluster: server + ", insecure-skip-tls-verify: true", user: token, reason: v1alpha1.ReasonForbiddenKubeconfig, message: "insecure-skip-tls-verify"},
		{name: "proxy", cluster: server + ", proxy-url: http://evil", user: token, reason: v1alpha1.ReasonForbiddenKubeconfig, message: "proxy-url"},
		{name: "plain HTTP", cluster: "server: http://api.west", user: token, reason: v1alpha1.ReasonForbiddenKubeconfig, message: "https"},
		{name: "no server", cluster: "", user: token, reason: v1alpha1.ReasonInvalidKubeconfig, message: "server"},
		{name: "user in server", cluster: "server: https://me@api.west", user: token, reason: v1alpha1.ReasonInvalidKubeconfig, message: "server"},
		{name: "bad CA", cluster: server + ", certificate-authority-data: eA==", user: token, reason: v1alpha1.ReasonInvalidKubeconfig, message: "certificate-authority-data"},
		{name: "no credential", cluster: server, user: "", reason: v1alpha1.ReasonInvalidKubeconfig, message: "neither"},
		{name: "password", cluster: server, user: "username: a, password: b", reason: v1alpha1.ReasonInvalidKubeconfig, message: "basic"},
		{name: "bad pair", cluster: server, user: "client-certificate-data: eA==, client-key-data: eA==", reason: v1alpha1.ReasonInvalidKubeconfig, message: "client-certificate-data"},
		{name: "token of two lines", cluster: server, user: `token: "a\nb"`, reason: v1alpha1.ReasonInvalidKubeconfig, message: "white space"},
		{name: "empty", whole: " ", reason: v1alpha1.ReasonInvalidKubeconfig, message: "current-context"},
		{name: "no YAML", whole: "{", reason: v1alpha1.ReasonInvalidKubeconfig, message: "parsed"},
		{name: "context that is not there", whole: "current-context: x", reason: v1alpha1.ReasonInvalidKubeconfig, message: "current-context"},
		{name: "too large", whole: "# " + strings.Repeat("x", maxKubeconfigSize), reason: v1alpha1.ReasonInvalidKubeconfig, message: "bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			data := tc.whole
			if data == "" {
				data = fmt.Sprintf(kubeconfigForm, tc.cluster, tc.user)
			}
			k, err := ParseKubeconfig([]byte(data))
			if tc.reason == "" {
				if err != nil {
					t.Fatal(err)
				}
				if k.Config.Host != "https://api.west:6443" || k.Config.BearerToken != "abc" || k.Config.Insecure {
					t.Fatalf("got %+v", k.Config)
				}
				return
			}
			var refused *KubeconfigError
			if !errors.As(err, &refused) || refused.Reason != tc.reason || !strings.Contains(err.Error(), tc.message) {
				t.Fatalf("got %v, want %s with %q", err, tc.reason, tc.message)
			}
		})
	}
}

// TestKubeconfigExpiry: what credentials say of their end is known, and is for the API server to judge: our clock may be ahead.
func TestKubeconfigExpiry(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for _, life := range []time.Duration{time.Hour, -time.Hour} {
		k, err := ParseKubeconfig(fmt.Appendf(nil, kubeconfigForm, "server: https://api.west:6443", "token: "+jwt(now.Add(life))))
		if err != nil || !k.Expiry.Equal(now.Add(life)) {
			t.Fatalf("got %v, %v", k, err)
		}
	}
}

func FuzzParseKubeconfig(f *testing.F) {
	f.Add([]byte(fmt.Sprintf(kubeconfigForm, "server: https://api.west:6443", "token: abc")))
	f.Add([]byte("current-context: x"))
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := ParseKubeconfig(data)
		if err != nil {
			if !errors.As(err, new(*KubeconfigError)) {
				t.Fatalf("%T is not a *KubeconfigError", err)
			}
			return
		}
		c := k.Config
		if c.ExecProvider != nil || c.AuthProvider != nil || c.BearerTokenFile != "" || c.CAFile != "" || c.CertFile != "" || c.KeyFile != "" ||
			c.Insecure || c.Proxy != nil || !strings.HasPrefix(c.Host, "https://") {
			t.Fatalf("unsafe: %+v", c)
		}
	})
}
