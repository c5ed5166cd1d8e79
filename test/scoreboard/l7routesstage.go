// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/translate"
	"github.com/isthmus-mesh/isthmus/test/fleet"
	"github.com/isthmus-mesh/isthmus/test/rig"
)

const (
	routeNamespace   = "web"
	routeGateway     = "edge"
	routeGatewayPort = 8080
	routeServices    = 50 // that the routes lead to
	routeControlPort = "15012"
	routeAdminPort   = "15000"
)

// routeStage is the controller as it ships, a cluster that it reads, and the gateway as it ships, each in a process of its own. The gateway and its backend are in a network
// namespace, as an endpoint cannot have an address of loopback.
type routeStage struct {
	plane   *discoveryPlane
	rig     *rig.Rig
	space   *rig.Space
	address netip.Addr // of the gateway and the backend
	gateway *rig.Process
	stops   []func()
}

// newRouteStage makes the cluster, with a Gateway and services, and without routes. Nothing of ours runs yet, but its certificate authority is there: the
// controller has made it in a run of its own.
func newRouteStage(ctx context.Context) (_ *routeStage, err error) {
	s := &routeStage{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.plane, err = newDiscoveryPlane(ctx, 1); err != nil {
		return nil, err
	}
	if s.rig, err = rig.New(); err != nil {
		return nil, err
	}
	if s.space, err = s.rig.NewSpace(); err != nil {
		return nil, err
	}
	if s.address, err = s.rig.OnFabric(s.space, "fabric"); err != nil {
		return nil, err
	}
	backend, err := s.space.Listen(ctx, "tcp", net.JoinHostPort(s.address.String(), "0"))
	if err != nil {
		return nil, err
	}
	s.stops = append(s.stops, serveRouteNames(backend))
	if err := s.populate(int32(backend.Addr().(*net.TCPAddr).Port)); err != nil {
		return nil, err
	}
	if _, err := s.rig.Program(ctx, "gateway"); err != nil {
		return nil, err
	}
	if err := s.plane.start(ctx); err != nil {
		return nil, err
	}
	err = s.plane.await(ctx, "the controller makes an authority", func() (bool, error) { return s.plane.roots() != nil, nil })
	return s, errors.Join(err, s.plane.stop())
}

func (s *routeStage) close() error {
	for _, stop := range s.stops {
		stop()
	}
	var err error
	if s.rig != nil {
		err = s.rig.Close()
	}
	if s.plane != nil {
		err = errors.Join(err, s.plane.close())
	}
	return err
}

func (s *routeStage) populate(backend int32) error {
	all := []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: routeNamespace}},
		&gatewayv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: "eastwest"}, Spec: gatewayv1.GatewayClassSpec{ControllerName: translate.ControllerName}},
		&gatewayv1.Gateway{ObjectMeta: metav1.ObjectMeta{Namespace: routeNamespace, Name: routeGateway}, Spec: gatewayv1.GatewaySpec{
			GatewayClassName: "eastwest", Listeners: []gatewayv1.Listener{{Name: "http", Port: routeGatewayPort, Protocol: gatewayv1.HTTPProtocolType}},
		}},
	}
	for i := range routeServices {
		meta := metav1.ObjectMeta{Namespace: routeNamespace, Name: fmt.Sprintf("app-%02d", i)}
		ip := fmt.Sprintf("10.200.0.%d", i+1)
		slice := meta
		slice.Labels = map[string]string{discoveryv1.LabelServiceName: meta.Name}
		all = append(all,
			&corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
				Type: corev1.ServiceTypeClusterIP, ClusterIP: ip, ClusterIPs: []string{ip}, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
				Ports: []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80}},
			}},
			&discoveryv1.EndpointSlice{
				ObjectMeta: slice, AddressType: discoveryv1.AddressTypeIPv4,
				Ports:     []discoveryv1.EndpointPort{{Name: ptr.To("http"), Port: &backend, Protocol: ptr.To(corev1.ProtocolTCP)}},
				Endpoints: []discoveryv1.Endpoint{{Addresses: []string{s.address.String()}, Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true)}}},
			},
		)
	}
	return s.plane.local().Create(all...)
}

// route is a route of a host of its own, with a path and a header of its own; the number says which of the services it leads to.
func route(name string, number int) *gatewayv1.HTTPRoute {
	return &gatewayv1.HTTPRoute{
		ObjectMeta: metav1.ObjectMeta{Namespace: routeNamespace, Name: name},
		Spec: gatewayv1.HTTPRouteSpec{
			CommonRouteSpec: gatewayv1.CommonRouteSpec{ParentRefs: []gatewayv1.ParentReference{{
				Group: ptr.To[gatewayv1.Group](gatewayv1.GroupName), Kind: ptr.To[gatewayv1.Kind]("Gateway"), Name: routeGateway,
			}}},
			Hostnames: []gatewayv1.Hostname{gatewayv1.Hostname(name + ".example.com")},
			Rules: []gatewayv1.HTTPRouteRule{{
				Matches: []gatewayv1.HTTPRouteMatch{{Path: &gatewayv1.HTTPPathMatch{Type: ptr.To(gatewayv1.PathMatchPathPrefix), Value: ptr.To("/" + name)}}},
				Filters: []gatewayv1.HTTPRouteFilter{{
					Type:                  gatewayv1.HTTPRouteFilterRequestHeaderModifier,
					RequestHeaderModifier: &gatewayv1.HTTPHeaderFilter{Set: []gatewayv1.HTTPHeader{{Name: routeHeader, Value: name}}},
				}},
				BackendRefs: []gatewayv1.HTTPBackendRef{{BackendRef: gatewayv1.BackendRef{
					BackendObjectReference: gatewayv1.BackendObjectReference{
						Group: ptr.To[gatewayv1.Group](""), Kind: ptr.To[gatewayv1.Kind]("Service"), Name: gatewayv1.ObjectName(fmt.Sprintf("app-%02d", number%routeServices)), Port: ptr.To[gatewayv1.PortNumber](80),
					},
					Weight: ptr.To[int32](1),
				}}},
			}},
		},
	}
}

// start runs the controller and the gateway, at once.
func (s *routeStage) start(ctx context.Context) error {
	if err := s.plane.start(ctx); err != nil {
		return err
	}
	if err := s.forward(ctx); err != nil {
		return err
	}
	roots, err := fleet.Get(s.plane.local().Server, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: fleet.SystemNamespace, Name: "istio-ca-root-cert"}})
	if err != nil {
		return err
	}
	files := map[string]string{"roots": roots.Data["root-cert.pem"], "token": fleet.TokenOf(routeNamespace, routeGateway, routeGateway+"-1")}
	for name, text := range files {
		files[name] = filepath.Join(s.rig.Dir, name)
		if err := os.WriteFile(files[name], []byte(text), 0o600); err != nil {
			return err
		}
	}
	program, err := s.rig.Program(ctx, "gateway")
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(s.rig.Dir, "gateway.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, program,
		"--gateway="+routeNamespace+"/"+routeGateway, "--controller=127.0.0.1:"+routeControlPort, "--controller-name=isthmus-controller."+fleet.SystemNamespace+".svc",
		"--cluster-id="+s.plane.local().ID, "--root-cert="+files["roots"], "--token="+files["token"], "--settle=0s",
	)
	cmd.Env = append(os.Environ(), "POD_NAME="+routeGateway+"-1", "INSTANCE_IP="+s.address.String())
	cmd.Stdout, cmd.Stderr = log, log
	s.gateway, err = s.rig.Start(s.space, cmd)
	return err
}

// forward has the controller's discovery be reached from within the namespace.
func (s *routeStage) forward(ctx context.Context) error {
	l, err := s.space.Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", routeControlPort))
	if err != nil {
		return err
	}
	s.stops = append(s.stops, func() { l.Close() })
	go func() {
		for {
			inside, err := l.Accept()
			if err != nil {
				return
			}
			outside, err := new(net.Dialer).DialContext(ctx, "tcp", s.plane.address)
			if err != nil { // the controller does not listen yet, and the gateway learns that as it would without us
				inside.Close()
				continue
			}
			for _, pair := range [2][2]net.Conn{{inside, outside}, {outside, inside}} {
				go func() {
					_, _ = io.Copy(pair[0], pair[1]) // ends with either
					pair[0].Close()
					pair[1].Close()
				}()
			}
		}
	}()
	return nil
}

// dial connects to the gateway's listener.
func (s *routeStage) dial(ctx context.Context) (net.Conn, error) {
	return s.space.Dial(ctx, "tcp", net.JoinHostPort(s.address.String(), strconv.Itoa(routeGatewayPort)))
}

// observe runs measure and writes profiles of the controller and the gateway in that time, if they are asked for: the gateway's to FILE.gateway.
func (s *routeStage) observe(ctx context.Context, seconds int, measure func() error) error {
	file, _ := ctx.Value(subjectFile{}).(string)
	if file == "" {
		return measure()
	}
	done := make(chan error, 2)
	go func() { done <- s.plane.fetch(ctx, fmt.Sprintf("profile?seconds=%d", seconds), file) }()
	go func() {
		text, err := s.space.Get(ctx, fmt.Sprintf("http://127.0.0.1:%s/debug/pprof/profile?seconds=%d", routeAdminPort, seconds))
		if err == nil {
			err = os.WriteFile(file+".gateway", text, 0o600)
		}
		done <- err
	}()
	err := measure()
	return errors.Join(err, <-done, <-done)
}

// lastWords are the end of the gateway's log, for an error.
func (s *routeStage) lastWords() string {
	text, _ := os.ReadFile(filepath.Join(s.rig.Dir, "gateway.log")) // nothing to say if it cannot be read
	return string(text[max(0, len(text)-2000):])
}
