// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// webGateway makes a configuration that has a listener for HTTP besides the one for HBONE, with a route to the service cart.
func webGateway(change func(*mesh.Gateway)) func(*mesh.Gateway) {
	return func(g *mesh.Gateway) {
		g.Listeners = append(g.Listeners, mesh.Listener{Name: "web", Port: 80, Bind: 20080, Protocol: mesh.ListenerHTTP, Routes: []*mesh.HTTPRoute{{
			Namespace: "shop", Name: "cart", Rules: []mesh.HTTPRule{{
				Matches: []mesh.HTTPMatch{{Path: "/"}}, Backends: []mesh.HTTPBackend{{Service: cartKey, Port: 80, Weight: 1}},
			}},
		}}})
		if change != nil {
			change(g)
		}
	}
}

// get asks the gateway's port for HTTP.
func (s *scene) get() (int, string) {
	s.t.Helper()
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + s.address(20080) + "/")
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(body)
}

// A gateway serves HTTP beside HBONE: it follows routes, endpoints, policies, and listeners that come and go.
func TestWeb(t *testing.T) {
	s := newScene(t, nil)
	s.configure(webGateway(nil))
	if status, _ := s.get(); status != 503 {
		t.Errorf("without an endpoint the answer is %d", status)
	}
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	backend := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "cart") })}
	go backend.Serve(socket)
	t.Cleanup(func() { backend.Close() })
	at := socket.Addr().(*net.TCPAddr).AddrPort()
	s.add(podWorkload(1, func(w *mesh.Workload) {
		w.Addresses, w.Tunnel, w.Services = []netip.Addr{at.Addr()}, mesh.TunnelNone, map[mesh.ServiceKey][]mesh.Port{cartKey: {{Service: 80, Target: at.Port()}}}
	}))
	if status, body := s.get(); status != 200 || body != "cart" {
		t.Errorf("%d %q", status, body)
	}
	// A policy of the gateway judges clients that have proved nothing.
	s.configure(webGateway(func(g *mesh.Gateway) {
		g.Policies = []*mesh.Policy{{Namespace: "edge", Name: "closed", Action: mesh.Deny, Rules: []mesh.PolicyRule{{}}}}
	}))
	if status, body := s.get(); status != 403 {
		t.Errorf("denied, but %d %q", status, body)
	}
	// So does one of the service.
	s.configure(webGateway(func(g *mesh.Gateway) {
		g.ServicePolicies = []mesh.ServicePolicies{{Service: cartKey, Policies: []*mesh.Policy{{Namespace: "shop", Name: "closed", Action: mesh.Deny, Rules: []mesh.PolicyRule{{}}}}}}
	}))
	if status, body := s.get(); status != 403 {
		t.Errorf("denied by the service's policy, but %d %q", status, body)
	}
	s.configure(webGateway(nil))
	if status, body := s.get(); status != 200 || body != "cart" {
		t.Errorf("allowed again, but %d %q", status, body)
	}
	// The listener goes, and the one for HBONE stays.
	s.configure(nil)
	s.until("the port is closed", func() bool { status, _ := s.get(); return status == 0 })
	if len(s.server.Pending()) > 0 {
		t.Errorf("pending: %v", s.server.Pending())
	}
}
