// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
)

// says answers every request with a code and a media type.
type says struct {
	code int
	kind string
	more http.Header
}

func (s says) RoundTrip(*http.Request) (*http.Response, error) {
	header := s.more.Clone()
	if header == nil {
		header = http.Header{}
	}
	if s.kind != "" {
		header.Set("Content-Type", s.kind)
	}
	return &http.Response{StatusCode: s.code, Header: header, Body: io.NopCloser(strings.NewReader("{}"))}, nil
}

func TestCandid(t *testing.T) {
	for _, tc := range []struct {
		code int
		kind string
		want string // in the problem; "" if it may be an API server's answer
	}{
		{200, "application/json", ""},
		{200, "application/json; charset=utf-8", ""},
		{200, "application/vnd.kubernetes.protobuf;stream=watch", ""},
		{200, "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", ""},
		{200, "application/cbor-seq", ""},
		{200, "", ""},
		{200, "text/html; charset=utf-8", "text/html"},
		{200, "text/plain", "text/plain"},
		{200, "application/jsonp", "application/jsonp"},
		{200, "\x1b[31m" + strings.Repeat("x", 1000), "?[31mxxx"},
		{301, "", "301 Moved Permanently"},
		{302, "text/html", "302 Found"},
		{308, "application/json", "308 Permanent Redirect"},
		{399, "", "399"},
		{401, "text/html", ""}, // its code says enough
		{503, "text/html", ""},
		{404, "text/plain", ""},
	} {
		r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "https://far/version", nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := candid{says{code: tc.code, kind: tc.kind}}.RoundTrip(r)
		if err == nil {
			_ = answer.Body.Close()
		}
		problem, not := isNotKubernetes(err)
		if not != (tc.want != "") || !strings.Contains(problem, tc.want) || len(problem) > 200 {
			t.Errorf("%d with %.20q: %q, want %q", tc.code, tc.kind, problem, tc.want)
		}
	}
}

func TestExplainLoss(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	asked := func(err error) error { return &url.Error{Op: "Get", URL: "https://far/version", Err: err} }
	alert := func(n uint8) error {
		return asked(&net.OpError{Op: "remote error", Err: tls.AlertError(n)})
	}
	code := func(n int, body string) error {
		return apierrors.NewGenericServerResponse(n, "get", schema.GroupResource{Resource: "namespaces"}, "kube-system", body, 0, true)
	}
	refused := apierrors.NewUnauthorized("no")
	for _, tc := range []struct {
		name         string
		err          error
		begins, ends time.Duration // of the credentials, from now; 0: they do not say
		reason, says string
	}{
		{"nothing", asked(context.DeadlineExceeded), 0, 0, v1alpha1.ReasonUnreachable, "does not answer within 5s"},
		{"closed", asked(&net.OpError{Op: "dial", Err: errors.New("connection refused")}), 0, 0, v1alpha1.ReasonUnreachable, "connection refused"},
		{"a page", asked(&notKubernetes{"answers with text/html"}), 0, 0, v1alpha1.ReasonNotKubernetes, "https://far answers with text/html"},
		{"no version", errNoVersion, 0, 0, v1alpha1.ReasonNotKubernetes, "version"},
		{"not found", code(404, "404 page not found"), 0, 0, v1alpha1.ReasonNotKubernetes, "every API server has"},
		{"too many requests", code(429, "later"), 0, 0, v1alpha1.ReasonOverloaded, "429 Too Many Requests"},
		{"unavailable", code(503, "<html>"), 0, 0, v1alpha1.ReasonOverloaded, "503 Service Unavailable"},
		{"bad gateway", code(502, "<html>"), 0, 0, v1alpha1.ReasonUnreachable, "502 Bad Gateway"},
		{"too much", asked(errTooMuch), 0, 0, v1alpha1.ReasonTooLarge, "2 MiB"},
		{"not believed", asked(x509.UnknownAuthorityError{}), 0, 0, v1alpha1.ReasonUntrusted, "does not vouch for"},
		{"of many other names", asked(x509.HostnameError{Certificate: &x509.Certificate{DNSNames: []string{strings.Repeat("a", 1<<20)}}, Host: "far"}), 0, 0, v1alpha1.ReasonUntrusted, "for another name"},
		{"not valid, at length", asked(x509.CertificateInvalidError{Reason: x509.NotAuthorizedToSign, Cert: &x509.Certificate{}, Detail: "\x1b" + strings.Repeat("a", 1<<20)}), 0, 0, v1alpha1.ReasonUntrusted, "not valid"},
		{"refused", refused, 0, time.Hour, v1alpha1.ReasonUnauthorized, "does not accept the kubeconfig's credentials"},
		{"ended", refused, 0, -time.Hour, v1alpha1.ReasonUnauthorized, "they ended at 2026-11-22T11:00:00Z"},
		{"too early", refused, time.Hour, 2 * time.Hour, v1alpha1.ReasonUnauthorized, "they count not before 2026-11-22T13:00:00Z"},
		{"our certificate expired", alert(45), 0, -time.Hour, v1alpha1.ReasonUnauthorized, "expired certificate: they ended at"},
		{"our certificate is of nobody", alert(48), 0, 0, v1alpha1.ReasonUnauthorized, "does not accept the kubeconfig's client certificate"},
		{"no certificate", alert(116), 0, 0, v1alpha1.ReasonUnauthorized, "certificate required"},
		{"another alert", alert(40), 0, 0, v1alpha1.ReasonUnreachable, "handshake failure"},
		{"a long story", asked(errors.New(strings.Repeat("\n", 1<<20))), 0, 0, v1alpha1.ReasonUnreachable, "???…"},
	} {
		k := &Kubeconfig{Config: &rest.Config{Host: "https://far"}}
		if tc.begins != 0 {
			k.Begins = now.Add(tc.begins)
		}
		if tc.ends != 0 {
			k.Expiry = now.Add(tc.ends)
		}
		reason, message := k.explainLoss(tc.err, now)
		if reason != tc.reason || !strings.Contains(message, tc.says) || len(message) > 1024 || strings.Contains(message, "<html>") {
			t.Errorf("%s: %s, %.200q; want %s, %q", tc.name, reason, message, tc.reason, tc.says)
		}
	}
}
