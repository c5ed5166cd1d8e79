// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/url"
	"strings"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
)

// maxKubeconfigSize bounds a kubeconfig, in bytes. One context with a chain of certificates needs about 10 KiB.
const maxKubeconfigSize = 256 << 10

// KubeconfigError says why a kubeconfig is not used. It never holds a credential.
type KubeconfigError struct {
	Reason  string // one of the reasons of v1alpha1.RemoteClusterReady
	Field   string // the field of the kubeconfig, such as users["reader"].user.exec; empty when it is the whole
	Problem string
}

func (e *KubeconfigError) Error() string {
	if e.Field == "" {
		return e.Problem
	}
	return e.Field + ": " + e.Problem
}

// Kubeconfig is a kubeconfig that is safe to use.
type Kubeconfig struct {
	// Config holds what was read and nothing else: no file, program, proxy or provider is reached through it.
	Config *rest.Config
	// Expiry is when the credential ends, zero when it does not say.
	Expiry time.Time
	// Begins is when the client certificate begins to count, zero if there is none.
	Begins time.Time
}

// ParseKubeconfig reads the current context of a kubeconfig that came from a Secret. Whoever can write that Secret must not be able to
// run programs in the controller, to read its files, or to have it talk to a server that proves nothing: exec and auth-provider plugins,
// paths, insecure-skip-tls-verify, proxy-url and plain HTTP are refused. Other contexts in the file are not looked at.
// Whether credentials still count is for the API server to say: our own clock may be wrong, and a kubeconfig that is refused is not looked at again. The error is always a
// *KubeconfigError.
func ParseKubeconfig(data []byte) (*Kubeconfig, error) {
	if len(data) > maxKubeconfigSize {
		return nil, refuse(v1alpha1.ReasonInvalidKubeconfig, "", "%d bytes are more than the %d allowed", len(data), maxKubeconfigSize)
	}
	file, err := clientcmd.Load(data)
	if err != nil {
		// The parser's own text may quote the input, which holds credentials.
		return nil, refuse(v1alpha1.ReasonInvalidKubeconfig, "", "not a kubeconfig: it cannot be parsed as YAML of kind Config")
	}
	if file.CurrentContext == "" {
		return nil, refuse(v1alpha1.ReasonInvalidKubeconfig, "current-context", "must be set")
	}
	context := file.Contexts[file.CurrentContext]
	if context == nil {
		return nil, refuse(v1alpha1.ReasonInvalidKubeconfig, "current-context", "names %q, which is not among contexts", file.CurrentContext)
	}
	cluster := file.Clusters[context.Cluster]
	if cluster == nil {
		return nil, refuse(v1alpha1.ReasonInvalidKubeconfig, field("contexts", file.CurrentContext, "context.cluster"), "names %q, which is not among clusters", context.Cluster)
	}
	user := file.AuthInfos[context.AuthInfo]
	if user == nil {
		return nil, refuse(v1alpha1.ReasonInvalidKubeconfig, field("contexts", file.CurrentContext, "context.user"), "names %q, which is not among users", context.AuthInfo)
	}
	if err := checkCluster(context.Cluster, cluster); err != nil {
		return nil, err
	}
	expiry, err := checkUser(context.AuthInfo, user)
	if err != nil {
		return nil, err
	}
	return &Kubeconfig{
		Config: &rest.Config{
			Host:        cluster.Server,
			BearerToken: user.Token,
			TLSClientConfig: rest.TLSClientConfig{
				ServerName: cluster.TLSServerName,
				CAData:     cluster.CertificateAuthorityData,
				CertData:   user.ClientCertificateData,
				KeyData:    user.ClientKeyData,
			},
			DisableCompression: cluster.DisableCompression,
			Impersonate: rest.ImpersonationConfig{
				UserName: user.Impersonate, UID: user.ImpersonateUID, Groups: user.ImpersonateGroups, Extra: user.ImpersonateUserExtra,
			},
		},
		Expiry: expiry,
		Begins: certificateBegin(user.ClientCertificateData),
	}, nil
}

func checkCluster(name string, c *clientcmdapi.Cluster) error {
	at := func(f string) string { return field("clusters", name, "cluster."+f) }
	switch {
	case c.InsecureSkipTLSVerify:
		return refuse(v1alpha1.ReasonForbiddenKubeconfig, at("insecure-skip-tls-verify"), "the API server must prove who it is; use certificate-authority-data")
	case c.CertificateAuthority != "":
		return refuse(v1alpha1.ReasonForbiddenKubeconfig, at("certificate-authority"), "is a path on the controller's disk; use certificate-authority-data")
	case c.ProxyURL != "":
		return refuse(v1alpha1.ReasonForbiddenKubeconfig, at("proxy-url"), "is not allowed")
	}
	server, err := url.Parse(c.Server)
	switch {
	case err != nil || server.Host == "":
		return refuse(v1alpha1.ReasonInvalidKubeconfig, at("server"), "must be a URL such as https://api.example.com:6443")
	case server.Scheme != "https":
		return refuse(v1alpha1.ReasonForbiddenKubeconfig, at("server"), "must use https, not %q", server.Scheme)
	case server.User != nil || server.RawQuery != "" || server.Fragment != "":
		return refuse(v1alpha1.ReasonInvalidKubeconfig, at("server"), "must not hold user, query or fragment")
	}
	if len(c.CertificateAuthorityData) > 0 && !x509.NewCertPool().AppendCertsFromPEM(c.CertificateAuthorityData) {
		return refuse(v1alpha1.ReasonInvalidKubeconfig, at("certificate-authority-data"), "holds no PEM certificate")
	}
	return nil
}

// checkUser gives the earliest end of the user's credentials.
func checkUser(name string, u *clientcmdapi.AuthInfo) (time.Time, error) {
	at := func(f string) string { return field("users", name, "user."+f) }
	var none time.Time
	switch {
	case u.Exec != nil:
		return none, refuse(v1alpha1.ReasonForbiddenKubeconfig, at("exec"), "would run a program in the controller; use a token or client-certificate-data")
	case u.AuthProvider != nil:
		return none, refuse(v1alpha1.ReasonForbiddenKubeconfig, at("auth-provider"), "is not allowed; use a token or client-certificate-data")
	case u.TokenFile != "":
		return none, refuse(v1alpha1.ReasonForbiddenKubeconfig, at("tokenFile"), "is a path on the controller's disk; use token")
	case u.ClientCertificate != "":
		return none, refuse(v1alpha1.ReasonForbiddenKubeconfig, at("client-certificate"), "is a path on the controller's disk; use client-certificate-data")
	case u.ClientKey != "":
		return none, refuse(v1alpha1.ReasonForbiddenKubeconfig, at("client-key"), "is a path on the controller's disk; use client-key-data")
	case u.Username != "" || u.Password != "":
		return none, refuse(v1alpha1.ReasonInvalidKubeconfig, at("username"), "basic authentication is not supported; use a token or client-certificate-data")
	}
	hasCertificate := len(u.ClientCertificateData) > 0 || len(u.ClientKeyData) > 0
	if !hasCertificate && u.Token == "" {
		return none, refuse(v1alpha1.ReasonInvalidKubeconfig, field("users", name, "user"), "has neither token nor client-certificate-data with client-key-data")
	}
	var expiry time.Time
	if hasCertificate {
		if _, err := tls.X509KeyPair(u.ClientCertificateData, u.ClientKeyData); err != nil {
			return none, refuse(v1alpha1.ReasonInvalidKubeconfig, at("client-certificate-data"), "is not a pair of PEM certificate and key")
		}
		expiry = certificateEnd(u.ClientCertificateData)
	}
	if u.Token != "" {
		if strings.ContainsAny(u.Token, " \t\r\n") {
			return none, refuse(v1alpha1.ReasonInvalidKubeconfig, at("token"), "holds white space")
		}
		if end := tokenEnd(u.Token); !end.IsZero() && (expiry.IsZero() || end.Before(expiry)) {
			expiry = end
		}
	}
	return expiry, nil
}

// certificateEnd gives the end of the first certificate in a PEM bundle, the leaf.
func certificateEnd(bundle []byte) time.Time { return leafOf(bundle).NotAfter }

// certificateBegin gives its beginning.
func certificateBegin(bundle []byte) time.Time { return leafOf(bundle).NotBefore }

// leafOf is the first certificate of a bundle, or an empty one.
func leafOf(bundle []byte) *x509.Certificate {
	if block, _ := pem.Decode(bundle); block != nil {
		if leaf, err := x509.ParseCertificate(block.Bytes); err == nil {
			return leaf
		}
	}
	return &x509.Certificate{}
}

// tokenEnd reads the exp claim of a JWT without verifying it: it is shown to people and never trusted. Other tokens have no known end.
func tokenEnd(token string) time.Time {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return time.Time{}
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return time.Time{}
	}
	var claims struct {
		Expiry int64 `json:"exp"`
	}
	if json.Unmarshal(payload, &claims) != nil || claims.Expiry <= 0 {
		return time.Time{}
	}
	return time.Unix(claims.Expiry, 0)
}

func field(list, name, rest string) string { return fmt.Sprintf("%s[%q].%s", list, name, rest) }

func refuse(reason, field, format string, args ...any) *KubeconfigError {
	return &KubeconfigError{Reason: reason, Field: field, Problem: fmt.Sprintf(format, args...)}
}
