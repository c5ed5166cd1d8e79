// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
	"github.com/isthmus-mesh/isthmus/controllers"
	"github.com/isthmus-mesh/isthmus/test/apiserver"
)

const (
	churnServices = 10
	// churnWatches are the kinds that are read of a remote cluster: each is one watch.
	churnWatches = 8
)

// churnStage is a cluster with a control plane, and another one that several remote clusters are made of.
type churnStage struct {
	east, west *apiserver.Server
	client     client.Client
	directory  string
	plane      *churnPlane
	lanes      []*churnLane
	gaps       atomic.Int64 // rotations during which a cluster was not watched
}

// churnLane is one remote cluster on the wire: a proxy before the API server, at two paths, with an identity of its own. Which path is asked
// tells the credential that is in use.
type churnLane struct {
	name   string
	server *httptest.Server
	open   [2]atomic.Int64 // watches that are open, by path
}

func newChurnStage(ctx context.Context) (s *churnStage, err error) {
	ctrl.SetLogger(logr.Discard())
	s = &churnStage{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.east, err = apiserver.Start(); err != nil {
		return s, err
	}
	if s.west, err = apiserver.Start(); err != nil {
		return s, err
	}
	if s.directory, err = os.MkdirTemp("", "isthmus-churn-"); err != nil {
		return s, err
	}
	if s.client, err = client.New(s.east.Config, client.Options{Scheme: controllers.Scheme()}); err != nil {
		return s, err
	}
	west, err := client.New(s.west.Config, client.Options{Scheme: controllers.Scheme()})
	if err != nil {
		return s, err
	}
	if err := furnish(ctx, s.client, west); err != nil {
		return s, err
	}
	for i := range churnLanes {
		lane, err := newChurnLane(s.west, i)
		if err != nil {
			return s, err
		}
		s.lanes = append(s.lanes, lane)
	}
	kubeconfig := filepath.Join(s.directory, "kubeconfig")
	if err := os.WriteFile(kubeconfig, s.east.Kubeconfig, 0o600); err != nil {
		return s, err
	}
	s.plane, err = startChurnPlane(ctx, kubeconfig)
	return s, err
}

func (s *churnStage) close() {
	if s.plane != nil {
		s.plane.stop()
	}
	for _, l := range s.lanes {
		l.server.CloseClientConnections()
		l.server.Close()
	}
	for _, c := range []*apiserver.Server{s.east, s.west} {
		if c != nil {
			_ = c.Stop() // what is left of it is in its own directory
		}
	}
	_ = os.RemoveAll(s.directory)
}

// furnish makes the system namespaces, and in west a gateway and services with a pod each.
func furnish(ctx context.Context, east, west client.Client) error {
	namespace := func(network string) *corev1.Namespace {
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: churnSystem, Labels: map[string]string{"topology.istio.io/network": network}}}
	}
	scope := func() *v1alpha1.ServiceScope {
		return &v1alpha1.ServiceScope{ObjectMeta: metav1.ObjectMeta{Name: "default"}, Spec: v1alpha1.ServiceScopeSpec{
			ServiceScopeConfigs: []v1alpha1.ServiceScopeConfig{{Scope: v1alpha1.ScopeGlobal}},
		}}
	}
	if err := create(ctx, east, namespace("east")); err != nil {
		return err
	}
	class := &gatewayv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: "eastwest"}, Spec: gatewayv1.GatewayClassSpec{ControllerName: "isthmus.dev/gateway-controller"}}
	mode := gatewayv1.TLSModeTerminate
	gateway := &gatewayv1.Gateway{
		ObjectMeta: metav1.ObjectMeta{Namespace: churnSystem, Name: "eastwest"},
		Spec: gatewayv1.GatewaySpec{GatewayClassName: "eastwest", Listeners: []gatewayv1.Listener{{
			Name: "mesh", Port: 15008, Protocol: "HBONE", TLS: &gatewayv1.ListenerTLSConfig{Mode: &mode,
				Options: map[gatewayv1.AnnotationKey]gatewayv1.AnnotationValue{"gateway.istio.io/tls-terminate-mode": "ISTIO_MUTUAL"}},
		}}},
	}
	if err := create(ctx, west, namespace("west"), scope(), class, gateway); err != nil {
		return err
	}
	gateway.Status.Addresses = []gatewayv1.GatewayStatusAddress{{Type: ptr.To(gatewayv1.IPAddressType), Value: "203.0.113.9"}}
	for i := range gateway.Status.Conditions {
		gateway.Status.Conditions[i].LastTransitionTime = metav1.Now()
	}
	if err := west.Status().Update(ctx, gateway); err != nil {
		return fmt.Errorf("give the gateway an address: %w", err)
	}
	for i := range churnServices {
		name := fmt.Sprintf("app-%d", i)
		of := func(suffix string) metav1.ObjectMeta {
			return metav1.ObjectMeta{Namespace: "default", Name: name + suffix, Labels: map[string]string{discoveryv1.LabelServiceName: name},
				Annotations: map[string]string{"ambient.istio.io/redirection": "enabled"}}
		}
		ip := fmt.Sprintf("10.244.1.%d", i+1)
		pod := &corev1.Pod{ObjectMeta: of("-1"), Spec: corev1.PodSpec{NodeName: "node-1", Containers: []corev1.Container{{Name: "app", Image: "app"}}}}
		if err := create(ctx, west, pod,
			&corev1.Service{ObjectMeta: of(""), Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)}}}},
			&discoveryv1.EndpointSlice{ObjectMeta: of("-1"), AddressType: discoveryv1.AddressTypeIPv4,
				Ports: []discoveryv1.EndpointPort{{Name: ptr.To("http"), Port: ptr.To[int32](8080)}},
				Endpoints: []discoveryv1.Endpoint{{Addresses: []string{ip}, NodeName: ptr.To("node-1"),
					TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: name + "-1"}}}}); err != nil {
			return err
		}
		pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}
		if err := west.Status().Update(ctx, pod); err != nil {
			return fmt.Errorf("make a pod ready: %w", err)
		}
	}
	return nil
}

func create(ctx context.Context, c client.Client, objects ...client.Object) error {
	for _, o := range objects {
		if err := c.Create(ctx, o); err != nil {
			return fmt.Errorf("create %T %s: %w", o, o.GetName(), err)
		}
	}
	return nil
}

func newChurnLane(behind *apiserver.Server, number int) (*churnLane, error) {
	to, err := url.Parse(behind.Config.Host)
	if err != nil {
		return nil, err
	}
	transport, err := rest.TransportFor(rest.CopyConfig(behind.Config)) // an administrator's: rights are another test's matter
	if err != nil {
		return nil, err
	}
	l := &churnLane{name: fmt.Sprintf("far-%d", number)}
	forward := &httputil.ReverseProxy{
		Transport: transport, FlushInterval: -1, ErrorLog: log.New(io.Discard, "", 0), // of clients that went away, which is what they are to do
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Header.Del("Authorization")
		},
	}
	l.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := 0
		if strings.HasPrefix(r.URL.Path, "/b/") {
			path = 1
		}
		r.URL.Path = r.URL.Path[2:]
		if r.URL.Path == "/api/v1/namespaces/kube-system" {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"kube-system","uid":"uid-of-%s"}}`, l.name)
			return
		}
		if r.URL.Query().Get("watch") == "true" || r.URL.Query().Get("watch") == "1" {
			l.open[path].Add(1)
			defer l.open[path].Add(-1)
		}
		forward.ServeHTTP(w, r)
	}))
	l.server.EnableHTTP2 = true
	l.server.StartTLS()
	return l, nil
}

// kubeconfig leads to one of the lane's two paths.
func (l *churnLane) kubeconfig(path string) ([]byte, error) {
	config := clientcmdapi.NewConfig()
	config.Clusters["c"] = &clientcmdapi.Cluster{Server: l.server.URL + "/" + path,
		CertificateAuthorityData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: l.server.Certificate().Raw})}
	config.AuthInfos["u"] = &clientcmdapi.AuthInfo{Token: "token"}
	config.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
	config.CurrentContext = "x"
	return clientcmd.Write(*config)
}

// cycle adds the lane's cluster, gives it another credential, and removes it; each step is done when it is done on the wire and in status.
func (s *churnStage) cycle(ctx context.Context, lane int) error {
	l := s.lanes[lane]
	first, err := l.kubeconfig("a")
	if err != nil {
		return err
	}
	second, err := l.kubeconfig("b")
	if err != nil {
		return err
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: churnSystem, Name: l.name, Labels: map[string]string{"istio/multiCluster": "true"}},
		Data:       map[string][]byte{l.name: first},
	}
	if err := s.client.Create(ctx, secret); err != nil {
		return fmt.Errorf("add %s: %w", l.name, err)
	}
	if err := eventually(ctx, l.name+" to be ready", func() (bool, error) {
		var r v1alpha1.RemoteCluster
		err := s.client.Get(ctx, client.ObjectKey{Name: l.name}, &r)
		return err == nil && meta.IsStatusConditionTrue(r.Status.Conditions, v1alpha1.RemoteClusterReady) && l.open[0].Load() == churnWatches, client.IgnoreNotFound(err)
	}); err != nil {
		return err
	}
	secret.Data[l.name] = second
	if err := s.client.Update(ctx, secret); err != nil {
		return fmt.Errorf("rotate %s: %w", l.name, err)
	}
	gap := false
	if err := eventually(ctx, l.name+" to use its new credential", func() (bool, error) {
		// The old watches are counted first: none of them left, and the new ones not there yet, is a gap.
		before := l.open[0].Load()
		after := l.open[1].Load()
		gap = gap || before < churnWatches && after < churnWatches
		return before == 0 && after == churnWatches, nil
	}); err != nil {
		return err
	}
	if gap {
		s.gaps.Add(1)
	}
	if err := s.client.Delete(ctx, secret); err != nil {
		return fmt.Errorf("remove %s: %w", l.name, err)
	}
	return eventually(ctx, l.name+" to be gone", func() (bool, error) {
		err := s.client.Get(ctx, client.ObjectKey{Name: l.name}, &v1alpha1.RemoteCluster{})
		return apierrors.IsNotFound(err) && l.open[0].Load()+l.open[1].Load() == 0, client.IgnoreNotFound(err)
	})
}

// settled counts what is there once it is no more than before, or after a while. Without a before it waits until two counts are alike.
func (s *churnStage) settled(ctx context.Context, before *churnCount) (churnCount, error) {
	var count churnCount
	var failed error
	err := eventually(ctx, "what is there to settle", func() (bool, error) {
		last := count
		if count, failed = s.plane.count(); failed != nil {
			return false, failed
		}
		for _, l := range s.lanes {
			count.Watches += int(l.open[0].Load() + l.open[1].Load())
		}
		var remotes v1alpha1.RemoteClusterList
		if failed = s.client.List(ctx, &remotes); failed != nil {
			return false, failed
		}
		count.Objects = len(remotes.Items)
		if before == nil {
			before = &last
			defer func() { before = nil }()
		}
		return count.Goroutines <= before.Goroutines && count.Descriptors <= before.Descriptors && count.Resources <= before.Resources &&
			count.Heap <= before.Heap+churnMemory && count.Watches+count.Objects == 0, nil
	})
	if failed == nil && errors.Is(err, errImpatient) {
		err = nil // what is left now is a leak, and it is for the figures to say so
	}
	return count, err
}

var errImpatient = errors.New("waited for too long")

// eventually asks until the answer is yes, an error, or it took too long.
func eventually(ctx context.Context, what string, is func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, churnPatience, fmt.Errorf("%w for %s", errImpatient, what))
	defer cancel()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		if yes, err := is(); yes || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}
