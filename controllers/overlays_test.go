// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// What is read for the Gateways of a namespace is bounded, what is beyond is said, and gets its turn when there is room. Gateways of classes that are somebody else's
// have nothing read.
func TestOverlaysAreBounded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	nobody, err := kubernetes.NewForConfig(&rest.Config{Host: "127.0.0.1:1"}) // nobody answers, and nobody needs to
	if err != nil {
		t.Fatal(err)
	}
	o := &Overlays{
		log: logr.Discard(), store: world.NewStore(), cluster: "east", maps: nobody.CoreV1().RESTClient(),
		foreign: map[string]bool{}, of: map[string]*namespaceOverlays{},
	}
	defer o.wait.Wait()
	defer cancel()
	gateway := func(namespace string, i int, class string) *gatewayv1.Gateway {
		g := &gatewayv1.Gateway{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("g%02d", i)}, Spec: gatewayv1.GatewaySpec{GatewayClassName: gatewayv1.ObjectName(class)}}
		return withParameters(g, fmt.Sprintf("c%02d", i))
	}
	check := func(when, namespace string, read, refused int) {
		t.Helper()
		o.mu.Lock()
		defer o.mu.Unlock()
		of := o.of[namespace]
		if of == nil {
			of = &namespaceOverlays{}
		}
		if len(of.read) != read || len(of.refused) != refused {
			t.Errorf("%s: of namespace %s %d are read and %d refused, want %d and %d", when, namespace, len(of.read), len(of.refused), read, refused)
		}
	}
	for i := range maxOverlays + 2 {
		o.changed(ctx, gateway("greedy", i, "eastwest"), false)
	}
	o.changed(ctx, gateway("modest", 0, "eastwest"), false)
	o.changed(ctx, gateway("elsewhere", 0, "theirs"), false)
	check("with two too many", "greedy", maxOverlays, 2)
	check("with two too many of others", "modest", 1, 0)
	told, err := o.store.Take(ctx)
	if err != nil {
		t.Fatal(err)
	}
	said := 0
	for k, overlay := range told.Overlays {
		if k.Namespace == "greedy" && overlay != nil && overlay.Problem != "" {
			said++
		}
	}
	if said != 2 {
		t.Errorf("of %d it is said that they are not read", said)
	}
	o.changed(ctx, gateway("greedy", 0, "eastwest"), true)
	check("with one less", "greedy", maxOverlays, 1)

	class := func(name string, controller gatewayv1.GatewayController) *gatewayv1.GatewayClass {
		return &gatewayv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: gatewayv1.GatewayClassSpec{ControllerName: controller}}
	}
	check("of a class that nobody knows", "elsewhere", 1, 0) // it may have been ours
	o.classChanged(ctx, class("theirs", "example.com/other"), false)
	check("of a class of others", "elsewhere", 0, 0)
	o.classChanged(ctx, class("theirs", translate.ControllerName), false)
	check("of a class that became ours", "elsewhere", 1, 0)
	o.changed(ctx, gateway("elsewhere", 0, "theirs"), true)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.of["elsewhere"] != nil {
		t.Error("a namespace without Gateways is remembered")
	}
}

// TestAnOverlayIsReadOnceItIsInTheStore: whoever waits for what Gateways name at the start finds it.
func TestAnOverlayIsReadOnceItIsInTheStore(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch q := r.URL.Query(); {
		case q.Get("sendInitialEvents") != "":
			http.Error(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422}`, http.StatusUnprocessableEntity)
		case q.Get("watch") != "":
			<-r.Context().Done()
		default:
			_, _ = fmt.Fprint(w, `{"kind":"ConfigMapList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[]}`)
		}
	}))
	defer server.Close()
	clients, err := kubernetes.NewForConfig(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	o := &Overlays{log: logr.Discard(), store: world.NewStore(), cluster: "east", maps: clients.CoreV1().RESTClient()}
	defer o.wait.Wait()
	defer cancel()
	r := o.begin(ctx, types.NamespacedName{Namespace: "ns", Name: "c"})
	select {
	case <-r.first:
	case <-ctx.Done():
		t.Fatal("it is never read")
	}
	if _, there := o.store.Get(world.ObjectRef{Kind: world.KindOverlay, Key: o.key("ns", "c")}); !there {
		t.Error("it is read, and not in the store")
	}
	dropped := o.begin(ctx, types.NamespacedName{Namespace: "ns", Name: "d"})
	o.drop(dropped, "ns", "d")
	select {
	case <-dropped.first:
	case <-ctx.Done():
		t.Error("one that is not followed any more is waited for")
	}
}
