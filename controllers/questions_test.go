// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/rest"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

const (
	someVersion  = `{"gitVersion":"v1.37.0"}`
	someIdentity = `{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"kube-system","uid":"uid-of-west"}}`
)

// farAnswers is an API server that answers who it is, and all else as it likes.
func farAnswers(t *testing.T, otherwise http.HandlerFunc) *httptest.Server {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/version":
			fmt.Fprint(w, someVersion)
		case "/api/v1/namespaces/kube-system":
			fmt.Fprint(w, someIdentity)
		default:
			otherwise(w, r)
		}
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// linkTo has Remotes read a server as west.
func linkTo(r *Remotes, s *httptest.Server) *connection {
	config := &rest.Config{Host: s.URL, BearerToken: "t", TLSClientConfig: rest.TLSClientConfig{
		CAData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})}}
	r.mu.Lock()
	defer r.mu.Unlock()
	e := &entry{wished: time.Now()}
	e.next = r.begin("west", [32]byte{1}, &Kubeconfig{Config: config})
	r.entries["west"] = e
	return e.next
}

// until waits for something that comes soon.
func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !so(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// TestASilentServerIsLeft: one that says who it is, and nothing of what it has, is left when nobody wishes for it any more.
func TestASilentServerIsLeft(t *testing.T) {
	asked, over := make(chan string, 100), make(chan struct{})
	far := farAnswers(t, func(_ http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Path
		select {
		case <-r.Context().Done():
		case <-over:
		}
	})
	r := lostRemotes(t)
	linkTo(r, far)
	<-asked
	r.mu.Lock()
	r.drop("west")
	r.mu.Unlock()
	left := make(chan struct{})
	go func() {
		defer close(left)
		r.running.Wait()
	}()
	select {
	case <-left:
	case <-time.After(20 * time.Second):
		t.Error("the connection stays")
		close(over) // so that the test ends
	}
}

// TestAnswersCostLittle: however an answer is made, reading it takes a small multiple of what is read of one, and not of what it would be as objects.
func TestAnswersCostLittle(t *testing.T) {
	const (
		each = 15 << 20  // of an answer
		most = 128 << 20 // that all that are given meanwhile may take
	)
	many := func(before, element, after string) string {
		return before + strings.Repeat(element+",", each/(len(element)+1)) + element + after
	}
	identity := func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/kube-system") }
	kinds := func(r *http.Request) bool {
		return r.URL.RawQuery == "" && r.URL.Path != "/version" && !identity(r)
	}
	objects := func(r *http.Request) bool { return r.URL.RawQuery != "" }
	for _, tc := range []struct {
		name       string
		about      func(*http.Request) bool
		code       int
		kind, body string
	}{
		{"a namespace that many manage", identity, 200, "application/json", many(`{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"kube-system","uid":"u","managedFields":[`, "{}", "]}}")},
		{"many groups", kinds, 200, "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", many(`{"kind":"APIGroupDiscoveryList","apiVersion":"apidiscovery.k8s.io/v2","items":[`, "{}", "]}")},
		{"many kinds", kinds, 200, "application/json", many(`{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"gateway.networking.k8s.io/v1","resources":[`, "{}", "]}")},
		{"a refusal for many causes", objects, 404, "application/json", many(`{"kind":"Status","apiVersion":"v1","status":"Failure","code":404,"reason":"NotFound","details":{"causes":[`, "{}", "]}}")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var told, since atomic.Int64 // answers, and requests after the first
			body := []byte(tc.body)
			far := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				if told.Load() > 0 {
					since.Add(1)
				}
				switch {
				case tc.about(r):
					w.Header().Set("Content-Type", tc.kind)
					w.WriteHeader(tc.code)
					_, _ = w.Write(body)
					told.Add(1)
				case r.URL.Path == "/version":
					fmt.Fprint(w, someVersion)
				case identity(r):
					fmt.Fprint(w, someIdentity)
				default:
					w.WriteHeader(http.StatusNotFound)
				}
			}))
			far.EnableHTTP2 = true
			far.StartTLS()
			defer far.Close()
			defer far.CloseClientConnections()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			r := lostRemotes(t)
			linkTo(r, far)
			until(t, "what is asked after an answer", func() bool { return since.Load() > 0 })
			r.mu.Lock()
			r.drop("west")
			r.mu.Unlock()
			r.running.Wait()
			runtime.ReadMemStats(&after)
			if took := int64(after.TotalAlloc - before.TotalAlloc); took > most {
				t.Errorf("%d answers of %d MiB took %d MiB", told.Load(), each>>20, took>>20)
			}
		})
	}
}

// TestQuestions: what an API server says of itself is believed if one could have said it. What else it wants to be shown or logged is not.
func TestQuestions(t *testing.T) {
	logged := &recorder{}
	rest.SetDefaultWarningHandler(logged)
	defer rest.SetDefaultWarningHandler(rest.WarningLogger{})
	for _, tc := range []struct {
		name, namespace string
		good            bool
	}{
		{"good", someIdentity, true},
		{"no UID", `{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"kube-system"}}`, false},
		{"a UID that status cannot hold", `{"metadata":{"uid":"` + strings.Repeat("a", maxUID+1) + `"}}`, false},
		{"one that just fits", `{"metadata":{"uid":"` + strings.Repeat("a", maxUID) + `"}}`, true},
		{"a UID that shows something", `{"metadata":{"uid":"a\u001b[31mb"}}`, false},
		{"a UID that is none", `{"metadata":{"uid":7}}`, false},
		{"nothing", ``, false},
	} {
		far := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Warning", `299 - "read this"`)
			if r.URL.Path == "/version" {
				fmt.Fprint(w, someVersion)
				return
			}
			fmt.Fprint(w, tc.namespace)
		}))
		r := lostRemotes(t)
		c := linkTo(r, far)
		until(t, tc.name, func() bool { return c.health().reachable || c.health().reason != "" })
		h := c.health()
		if tc.good != (h.uid != "") || !tc.good && h.reason != v1alpha1.ReasonNotKubernetes {
			t.Errorf("%s: %+v", tc.name, h)
		}
		r.mu.Lock()
		r.drop("west")
		r.mu.Unlock()
		r.running.Wait()
		far.Close()
	}
	if n := logged.said.Load(); n > 0 {
		t.Errorf("%d warnings of the server's were logged", n)
	}
}

// recorder counts warnings.
type recorder struct{ said atomic.Int64 }

func (r *recorder) HandleWarningHeader(int, string, string) { r.said.Add(1) }

// TestAKindIsAskedForUntilItIsKnown: that nothing was said of a kind does not mean that it is there; all else would wait for it.
func TestAKindIsAskedForUntilItIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		f := NewFeed(world.NewStore(), "west", []watched{kindOf[gatewayv1.Gateway](world.KindGateway, true)}, "isthmus-system")
		var asked atomic.Int32 // also by whoever looks again
		err := f.Attach(ctx, nil, func(context.Context, watched) (bool, error) {
			if asked.Add(1) < 4 {
				return false, errors.New("try later")
			}
			return false, nil
		})
		if err != nil || asked.Load() != 4 {
			t.Errorf("asked %d times, %v", asked.Load(), err)
		}
		time.Sleep(3 * lookAgainEvery)
		if asked := asked.Load(); asked < 6 {
			t.Errorf("asked %d times: nobody looks whether the kind is there by now", asked)
		}
		cancel()
		f.Wait()

		ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := f.Attach(ctx, nil, func(context.Context, watched) (bool, error) { return false, errors.New("never") }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a server that never says it: %v", err)
		}
	})
}

// TestRemoteMapper: every kind that is read of other clusters is known, where an API server has it.
func TestRemoteMapper(t *testing.T) {
	m, paths := remoteMapper(), 0
	for _, w := range remoteKinds() {
		gvks, _, err := scheme.ObjectKinds(w.object())
		if err != nil {
			t.Fatal(err)
		}
		mapping, err := m.RESTMapping(gvks[0].GroupKind(), gvks[0].Version)
		if err != nil {
			t.Errorf("%s: %v", w.kind, err)
			continue
		}
		for suffix := range shapes {
			if strings.HasSuffix(suffix, mapping.Resource.Version+"/"+mapping.Resource.Resource) {
				paths++
			}
		}
	}
	if paths != len(shapes) {
		t.Errorf("%d of %d kinds that are skimmed are at their paths", paths, len(shapes))
	}
}
