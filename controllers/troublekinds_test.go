// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
)

// troubles are those of a remote cluster that are known: one row each.
func troubles() []trouble {
	lost := func(t trouble) trouble { // the cluster is read, and then cannot be asked any more
		t.connected = "False/" + t.connected
		t.ready = t.connected
		return t
	}
	return []trouble{
		// The way there.
		lost(trouble{name: "black hole", connected: "Unreachable", says: "does not answer within", begin: wires(wireSwallows)}),
		lost(trouble{name: "black hole from the start", first: true, connected: "Unreachable", says: "does not answer within", begin: wires(wireSwallows)}),
		lost(trouble{name: "trickle", connected: "Unreachable", says: "does not answer within", begin: wires(wireTrickles)}),
		lost(trouble{name: "refused", connected: "Unreachable", says: "stays in use", begin: wires(wireIsDown)}),
		{name: "flapping", connected: "False/Unreachable", ready: "False/Unreachable", passes: true, begin: wires(wireIsFlappy)},
		{name: "address moves", connected: "True", ready: "True/Ready", passes: true, twoDoors: true, kubeconfig: named, begin: moves, end: func(*troubled) {}},
		{name: "past its limit", limit: 10 * time.Second, connected: "False/Unreachable", ready: "False/Stale", says: "staleness limit", begin: wires(wireSwallows)},

		// Who answers.
		lost(trouble{name: "HTML", connected: "NotKubernetes", says: "text/html", begin: answers(func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = w.Write([]byte("<html>Please log in.</html>"))
			return true
		})}),
		lost(trouble{name: "elsewhere", connected: "NotKubernetes", says: "302", begin: redirects, done: func(c *troubled) {
			Expect(c.note).To(BeEmpty(), "the redirect was followed")
		}}),
		lost(trouble{name: "nonsense", connected: "NotKubernetes", says: "version", begin: answers(func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"gitVersion":"v1`))
			return true
		})}),
		lost(trouble{name: "huge headers", connected: "Unreachable", says: "stays in use", begin: answers(func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("X-Pad", strings.Repeat("a", 1<<20))
			return false
		})}),
		lost(trouble{name: "gzip bomb", connected: "TooLarge", says: "MiB", passes: true, begin: answers(bomb())}),
		lost(trouble{name: "bad gateway", connected: "Unreachable", says: "502 Bad Gateway", begin: answers(func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusBadGateway)
			return true
		})}),
		lost(trouble{name: "too many requests", connected: "Overloaded", says: "429 Too Many Requests", begin: retryLater(http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests)}),
		lost(trouble{name: "unavailable", connected: "Overloaded", says: "503 Service Unavailable", begin: retryLater(http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable)}),

		// What is told.
		{name: "slow first list", first: true, connected: "True", ready: "False/Slow", says: "the first read", begin: answers(trickles("/pods"))},
		{name: "JSON", connected: "True/Connected", ready: "False/WatchFailing", says: "with application/json", begin: answers(func(_ http.ResponseWriter, r *http.Request) bool {
			r.Header.Set("Accept", "application/json")
			return false
		})},
		{name: "half an event", connected: "True", ready: "True/Ready", passes: true, begin: halves(false)},
		{name: "half an event and silence", connected: "True", ready: "True/Ready", passes: true, begin: halves(true)},
		{name: "one kind forbidden", connected: "True/Connected", ready: "False/Forbidden", says: "/apis/discovery.k8s.io/v1/endpointslices", passes: true,
			kubeconfig: separate, begin: forbids, end: allows},

		// Who proves what.
		{name: "another CA known before", connected: "True", ready: "True/Ready", passes: true, kubeconfig: twoProofs, begin: provesTheOther, end: func(*troubled) {}},
		lost(trouble{name: "another CA", connected: "Untrusted", says: "does not vouch", begin: provesAnew, end: func(c *troubled) { c.relink(c.usual()) }}),
		lost(trouble{name: "token taken back", connected: "Unauthorized", says: "does not accept", kubeconfig: boundToken, begin: takesBack, end: func(c *troubled) { c.relink(c.usual()) }}),
		lost(trouble{name: "client certificate that ends", connected: "Unauthorized", says: "ended at", begin: certificateEnds, end: func(c *troubled) { c.relink(c.usual()) }}),
		lost(trouble{name: "client certificate of tomorrow", first: true, connected: "Unauthorized", says: "not before", begin: func(*troubled) {},
			kubeconfig: func(c *troubled) []byte { return certified(24*time.Hour, 48*time.Hour) }, end: func(c *troubled) { c.relink(c.usual()) }}),

		// What is never used.
		forbiddenKubeconfig("exec", "exec", func(_ *clientcmdapi.Cluster, u *clientcmdapi.AuthInfo) {
			u.Exec = &clientcmdapi.ExecConfig{APIVersion: "client.authentication.k8s.io/v1", Command: "/bin/sh", InteractiveMode: clientcmdapi.NeverExecInteractiveMode}
		}),
		forbiddenKubeconfig("auth provider", "auth-provider", func(_ *clientcmdapi.Cluster, u *clientcmdapi.AuthInfo) {
			u.AuthProvider = &clientcmdapi.AuthProviderConfig{Name: "oidc"}
		}),
		forbiddenKubeconfig("token file", "tokenFile", func(_ *clientcmdapi.Cluster, u *clientcmdapi.AuthInfo) { u.TokenFile = "/etc/passwd" }),
		forbiddenKubeconfig("key file", "client-key", func(_ *clientcmdapi.Cluster, u *clientcmdapi.AuthInfo) { u.ClientKey = "/etc/shadow" }),
		forbiddenKubeconfig("CA file", "certificate-authority", func(c *clientcmdapi.Cluster, _ *clientcmdapi.AuthInfo) {
			c.CertificateAuthority, c.CertificateAuthorityData = "/etc/passwd", nil
		}),
		forbiddenKubeconfig("proxy", "proxy-url", func(c *clientcmdapi.Cluster, _ *clientcmdapi.AuthInfo) { c.ProxyURL = "http://192.0.2.1:3128" }),
		forbiddenKubeconfig("blind trust", "insecure-skip-tls-verify", func(c *clientcmdapi.Cluster, _ *clientcmdapi.AuthInfo) {
			c.InsecureSkipTLSVerify, c.CertificateAuthorityData = true, nil
		}),
	}
}

func wires(mode int32) func(*troubled) { return func(c *troubled) { c.wire.set(mode) } }

func answers(disturb func(http.ResponseWriter, *http.Request) bool) func(*troubled) {
	return func(c *troubled) { c.far.misbehave(disturb) }
}

// retryLater asks to be left alone for a day.
func retryLater(code int, reason metav1.StatusReason) func(*troubled) {
	return answers(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Retry-After", "86400")
		return answer(w, code, reason)
	})
}

// bomb is a small answer that unpacks to 64 MiB.
func bomb() func(http.ResponseWriter, *http.Request) bool {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write([]byte(`{"gitVersion":"v1.0.0","pad":"`))
	block := bytes.Repeat([]byte("a"), 1<<20)
	for range 64 {
		_, _ = z.Write(block)
	}
	_, _ = z.Write([]byte(`"}`))
	_ = z.Close()
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/version" {
			return false
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(packed.Bytes())
		return true
	}
}

// redirects sends everybody to a place that writes down who came.
func redirects(c *troubled) {
	var came atomic.Int64
	trap := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { came.Add(1) }))
	DeferCleanup(trap.Close)
	answers(func(w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, trap.URL+r.URL.Path, http.StatusFound)
		return true
	})(c)
	c.end = func(c *troubled) {
		if came.Load() > 0 {
			c.note = "somebody came"
		}
		c.heal()
	}
}

// trickles answers for paths with such an end a byte at a time.
func trickles(suffix string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, suffix) {
			return false
		}
		w.Header().Set("Content-Type", "application/vnd.kubernetes.protobuf;stream=watch")
		for _, b := range append([]byte{0, 16, 0, 0}, make([]byte, 1<<20)...) { // an event of that length
			if _, err := w.Write([]byte{b}); err != nil {
				return true
			}
			_ = http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
				return true
			case <-time.After(trickleEvery):
			}
		}
		return true
	}
}

// halves cuts the next event that a watch of services tells, and then the connection, or else says nothing more.
func halves(silence bool) func(*troubled) {
	return func(c *troubled) {
		var cut atomic.Bool
		c.far.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
			if !isWatch(r) || r.URL.Query().Get("sendInitialEvents") == "true" || !strings.HasSuffix(r.URL.Path, "/services") || cut.Load() {
				return false
			}
			c.far.forward.ServeHTTP(&halving{w, r, &cut, silence}, r)
			return true
		})
	}
}

// halving writes half of the first event.
type halving struct {
	http.ResponseWriter
	request *http.Request
	cut     *atomic.Bool
	silence bool
}

func (h *halving) Write(p []byte) (int, error) {
	if len(p) < 100 || h.cut.Swap(true) { // too little for an event
		return h.ResponseWriter.Write(p)
	}
	_, _ = h.ResponseWriter.Write(p[:len(p)/2])
	_ = http.NewResponseController(h.ResponseWriter).Flush()
	if h.silence {
		<-h.request.Context().Done()
	}
	panic(http.ErrAbortHandler)
}

func (h *halving) Unwrap() http.ResponseWriter { return h.ResponseWriter }

// separate makes an account with a role of its own.
func separate(c *troubled) []byte {
	for _, o := range documents("config", "rbac", "reader.yaml") {
		o.SetName(c.id)
		if o.GetKind() == "ClusterRoleBinding" {
			o.Object["roleRef"].(map[string]any)["name"] = c.id
			o.Object["subjects"].([]any)[0].(map[string]any)["name"] = c.id
		}
		west.with(o)
	}
	return c.through(c.far.kubeconfigAs(c.id))
}

// setRight gives or takes the right to read EndpointSlices.
func setRight(c *troubled, to string) {
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: c.id}}
	edit(west, role, func(r *rbacv1.ClusterRole) {
		for i := range r.Rules {
			if r.Rules[i].APIGroups[0] == "discovery.k8s.io" {
				r.Rules[i].Resources = []string{to}
			}
		}
	})
}

func forbids(c *troubled) {
	setRight(c, "nothing")
	// An API server looks at rights when a watch begins, and not again.
	c.far.CloseClientConnections()
}

func allows(c *troubled) { setRight(c, "endpointslices") }

// twoProofs trusts the certificate that the proxy shows and the one that it will.
func twoProofs(c *troubled) []byte {
	first := c.far.proof.Load()
	c.far.prove(time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	second := c.far.proof.Swap(first)
	c.note = string(second.Certificate[0])
	c.begin = func(c *troubled) {
		c.far.proof.Store(second)
		c.far.CloseClientConnections()
	}
	var bundle []byte
	for _, der := range [][]byte{first.Certificate[0], second.Certificate[0]} {
		bundle = append(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return west.kubeconfigFor(west.token(system, "isthmus-reader", "", nil), func(far *clientcmdapi.Cluster, _ *clientcmdapi.AuthInfo) {
		far.Server, far.CertificateAuthorityData = "https://"+c.wire.Addr().String(), bundle
	})
}

func provesTheOther(*troubled) { panic("twoProofs sets it") }

func provesAnew(c *troubled) {
	c.far.prove(time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	c.far.CloseClientConnections()
}

// boundToken counts for as long as a Secret exists.
func boundToken(c *troubled) []byte {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: c.id}}
	west.with(secret)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Secret", Name: secret.Name, UID: secret.UID},
	}}
	got, err := west.clientset.CoreV1().ServiceAccounts(system).CreateToken(context.Background(), "isthmus-reader", request, metav1.CreateOptions{})
	Expect(err).NotTo(HaveOccurred())
	return west.kubeconfigFor(got.Status.Token, func(far *clientcmdapi.Cluster, _ *clientcmdapi.AuthInfo) {
		far.Server = "https://" + c.wire.Addr().String()
		far.CertificateAuthorityData = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.far.proof.Load().Certificate[0]})
	})
}

func takesBack(c *troubled) {
	Expect(west.Delete(context.Background(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: c.id}})).To(Succeed())
}

// certified leads straight to the API server, by a certificate that counts from one moment to another.
func certified(from, until time.Duration) []byte {
	cert, key := clientAuthority().issue(accountPrefix+system+":isthmus-reader", time.Now().Add(from), time.Now().Add(until))
	return west.kubeconfigFor("", func(_ *clientcmdapi.Cluster, u *clientcmdapi.AuthInfo) {
		u.ClientCertificateData, u.ClientKeyData = cert, key
	})
}

// certificateEnds has the cluster read by a certificate that ends soon.
func certificateEnds(c *troubled) {
	for life := 6 * time.Second; ; life *= 2 { // a busy machine may need long to begin
		kubeconfig := certified(-time.Hour, life)
		ends := time.Now().Add(life)
		c.relink(kubeconfig)
		inTime := func() bool {
			r := &v1alpha1.RemoteCluster{}
			Expect(east.Get(context.Background(), client.ObjectKey{Name: c.id}, r)).To(Succeed())
			return r.Status.CredentialExpiry != nil && r.Status.CredentialExpiry.Before(&metav1.Time{Time: ends.Add(time.Second)}) &&
				strings.HasPrefix(verdict(r.Status.Conditions, r.Generation, "Ready"), "True/")
		}
		for time.Now().Before(ends) {
			if inTime() {
				return
			}
			time.Sleep(tick)
		}
	}
}

// named leads to the wire by a name.
func named(c *troubled) []byte {
	names.set(c.id+".test", "127.0.0.1")
	_, port, _ := strings.Cut(c.wire.Addr().String(), ":")
	return []byte(strings.ReplaceAll(string(c.far.kubeconfig()), "server: "+c.far.URL, "server: https://"+c.id+".test:"+port+"\n    tls-server-name: 127.0.0.1"))
}

// moves has the name lead to another wire, and the one before to nowhere.
func moves(c *troubled) {
	before := c.wire
	c.wire = c.next
	names.set(c.id+".test", "127.0.0.2")
	before.set(wireSwallows)
}

// forbiddenKubeconfig is about a kubeconfig that is refused whatever is at its other end.
func forbiddenKubeconfig(name, field string, spoil func(*clientcmdapi.Cluster, *clientcmdapi.AuthInfo)) trouble {
	return trouble{
		name: "kubeconfig with " + name, first: true, connected: "False/ForbiddenKubeconfig", ready: "False/ForbiddenKubeconfig", says: field, begin: func(*troubled) {},
		kubeconfig: func(c *troubled) []byte {
			return west.kubeconfigFor("t", func(far *clientcmdapi.Cluster, user *clientcmdapi.AuthInfo) {
				far.Server = "https://" + c.wire.Addr().String()
				spoil(far, user)
			})
		},
		end: func(c *troubled) { c.relink(c.usual()) },
	}
}
