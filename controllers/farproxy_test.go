// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/client-go/rest"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// farProxy stands between our control plane and a real API server: it writes down what is asked, and can misbehave on the way. Who asks is
// for the API server to say: credentials pass through.
type farProxy struct {
	*httptest.Server
	behind    *cluster
	transport *http.Transport
	// disturb may answer in the API server's place, and then says so. It may be nil.
	disturb atomic.Pointer[func(http.ResponseWriter, *http.Request) bool]
	proof   atomic.Pointer[tls.Certificate]
	forward *httputil.ReverseProxy // what passes requests on, for who disturbs only the answer
	// instead is another cluster that requests go to, with a token of its own. It may be nil.
	instead atomic.Pointer[detour]

	mu    sync.Mutex
	calls map[apiCall]int
}

// detour is a cluster, and a token for it.
type detour struct {
	to        *url.URL
	token     string
	transport *http.Transport
}

// lead sends all requests to another cluster from now on, or back with nil.
func (p *farProxy) lead(to *cluster) {
	GinkgoHelper()
	var d *detour
	if to != nil {
		at, err := url.Parse(to.Config.Host)
		Expect(err).NotTo(HaveOccurred())
		settings, err := rest.TLSConfigFor(&rest.Config{TLSClientConfig: rest.TLSClientConfig{CAData: to.Config.CAData}})
		Expect(err).NotTo(HaveOccurred())
		d = &detour{at, to.token(system, "isthmus-reader", "", nil), &http.Transport{TLSClientConfig: settings, ForceAttemptHTTP2: true}}
		DeferCleanup(d.transport.CloseIdleConnections)
	}
	p.instead.Store(d)
	p.CloseClientConnections()
}

// RoundTrip asks the cluster that is behind now.
func (p *farProxy) RoundTrip(r *http.Request) (*http.Response, error) {
	if d := p.instead.Load(); d != nil {
		r.URL.Host, r.Host = d.to.Host, d.to.Host
		r.Header.Set("Authorization", "Bearer "+d.token)
		return d.transport.RoundTrip(r)
	}
	return p.transport.RoundTrip(r)
}

// apiCall is one right that a request needs. Requests that are not about resources have a path and a verb.
type apiCall struct{ verb, group, resource, name, path string }

func newFarProxy(behind *cluster) *farProxy {
	GinkgoHelper()
	to, err := url.Parse(behind.Config.Host)
	Expect(err).NotTo(HaveOccurred())
	settings, err := rest.TLSConfigFor(&rest.Config{TLSClientConfig: rest.TLSClientConfig{CAData: behind.Config.CAData}})
	Expect(err).NotTo(HaveOccurred())
	transport := &http.Transport{TLSClientConfig: settings, ForceAttemptHTTP2: true}
	p := &farProxy{behind: behind, transport: transport, calls: map[apiCall]int{}}
	p.forward = &httputil.ReverseProxy{
		Transport: p, FlushInterval: -1,
		Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(to) },
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { panic(http.ErrAbortHandler) },
	}
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.calls[callOf(r)]++
		p.mu.Unlock()
		if disturb := p.disturb.Load(); disturb != nil && (*disturb)(w, r) {
			return
		}
		p.forward.ServeHTTP(w, r)
	}))
	p.EnableHTTP2 = true
	p.prove(time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	p.TLS = &tls.Config{
		NextProtos: []string{"h2", "http/1.1"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return &tls.Config{Certificates: []tls.Certificate{*p.proof.Load()}, NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS12}, nil
		},
		MinVersion: tls.VersionTLS12,
	}
	p.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that fail on purpose
	p.StartTLS()
	DeferCleanup(func() {
		p.CloseClientConnections()
		p.Close()
		transport.CloseIdleConnections()
	})
	return p
}

// prove gives the proxy another certificate, of nobody but itself.
func (p *farProxy) prove(from, until time.Time) *x509.Certificate {
	GinkgoHelper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	Expect(err).NotTo(HaveOccurred())
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	Expect(err).NotTo(HaveOccurred())
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "far"}, NotBefore: from, NotAfter: until, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	Expect(err).NotTo(HaveOccurred())
	leaf, err := x509.ParseCertificate(der)
	Expect(err).NotTo(HaveOccurred())
	p.proof.Store(&tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf})
	return leaf
}

// kubeconfig leads through the proxy, as the reader account, and trusts the proxy's present certificate.
func (p *farProxy) kubeconfig() []byte { return p.kubeconfigAs("isthmus-reader") }

// kubeconfigAs is the same as another account.
func (p *farProxy) kubeconfigAs(account string) []byte {
	GinkgoHelper()
	p.behind.tokenLife += 3600
	return p.behind.kubeconfigFor(p.behind.token(system, account, "", nil), func(c *clientcmdapi.Cluster, _ *clientcmdapi.AuthInfo) {
		c.Server = p.URL
		c.CertificateAuthorityData = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.proof.Load().Certificate[0]})
	})
}

// misbehave sets what the proxy does in the API server's place from now on, nil for nothing, and cuts what is open.
func (p *farProxy) misbehave(disturb func(http.ResponseWriter, *http.Request) bool) {
	if disturb == nil {
		p.disturb.Store(nil)
	} else {
		p.disturb.Store(&disturb)
	}
	p.CloseClientConnections()
}

func (p *farProxy) recorded() map[apiCall]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[apiCall]int{}
	for c, n := range p.calls {
		out[c] = n
	}
	return out
}

// callOf reads the right that a request needs out of its path, as an API server does.
func callOf(r *http.Request) apiCall {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	var c apiCall
	switch {
	case len(parts) >= 3 && parts[0] == "api":
		parts = parts[2:]
	case len(parts) >= 4 && parts[0] == "apis":
		c.group, parts = parts[1], parts[3:]
	default:
		return apiCall{verb: strings.ToLower(r.Method), path: r.URL.Path}
	}
	if parts[0] == "namespaces" && len(parts) > 2 {
		parts = parts[2:]
	}
	c.resource = parts[0]
	switch {
	case r.Method != http.MethodGet:
		c.verb = strings.ToLower(r.Method)
	case len(parts) > 1:
		c.verb, c.name = "get", strings.Join(parts[1:], "/")
	case r.URL.Query().Get("watch") == "true" || r.URL.Query().Get("watch") == "1":
		c.verb = "watch"
	default:
		c.verb = "list"
	}
	return c
}

// pretend has the cluster behind the proxy be another one than it is, so that one API server can be several clusters.
func (p *farProxy) pretend(uid string) {
	p.forward.ModifyResponse = func(answer *http.Response) error {
		if answer.Request.URL.Path != "/api/v1/namespaces/kube-system" || answer.StatusCode != http.StatusOK {
			return nil
		}
		_ = answer.Body.Close() // nobody reads it
		body := fmt.Sprintf(`{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"kube-system","uid":%q}}`, uid)
		answer.Body = io.NopCloser(strings.NewReader(body))
		answer.ContentLength = int64(len(body))
		answer.Header.Set("Content-Length", strconv.Itoa(len(body)))
		answer.Header.Set("Content-Type", "application/json")
		answer.Header.Del("Content-Encoding")
		return nil
	}
}
