// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds/pb/gatewaypb"
)

func gatewayToProto(g *mesh.Gateway) *gatewaypb.Gateway {
	out := &gatewaypb.Gateway{
		Namespace:      g.Namespace,
		Name:           g.Name,
		Network:        g.Network,
		ServiceAccount: g.ServiceAccount,
		TrustDomains:   g.TrustDomains,
	}
	for _, l := range g.Listeners {
		out.Listeners = append(out.Listeners, &gatewaypb.Listener{
			Name: l.Name, Port: uint32(l.Port), Bind: uint32(l.Bind), Protocol: gatewaypb.Listener_Protocol(l.Protocol),
		})
	}
	for _, key := range g.Exports {
		out.Exports = append(out.Exports, &gatewaypb.ServiceKey{Namespace: key.Namespace, Hostname: key.Hostname})
	}
	return out
}

func gatewayFromProto(g *gatewaypb.Gateway) (*mesh.Gateway, error) {
	var r reader
	out := &mesh.Gateway{
		Namespace:      r.must("namespace", g.GetNamespace(), maxName),
		Name:           r.must("name", g.GetName(), maxName),
		Network:        r.text("network", g.GetNetwork(), maxName),
		ServiceAccount: r.text("service_account", g.GetServiceAccount(), maxName),
	}
	if n := len(g.GetListeners()); n > 0 && r.count("listeners", n, maxMembers) {
		for _, l := range g.GetListeners() {
			if l.GetProtocol() != gatewaypb.Listener_HBONE {
				r.fail("listener %q has the protocol %d, which is not known", l.GetName(), l.GetProtocol())
				break
			}
			out.Listeners = append(out.Listeners, mesh.Listener{
				Name:     r.must("listener name", l.GetName(), maxName),
				Port:     r.port("listener port", l.GetPort(), false),
				Bind:     r.port("listener bind port", l.GetBind(), false),
				Protocol: mesh.ListenerHBONE,
			})
		}
	}
	if n := len(g.GetExports()); n > 0 && r.count("exports", n, maxMembers) {
		for _, key := range g.GetExports() {
			out.Exports = append(out.Exports, r.serviceKey("export", key.GetNamespace(), key.GetHostname()))
		}
	}
	if n := len(g.GetTrustDomains()); n > 0 && r.count("trust_domains", n, maxMembers) {
		for _, td := range g.GetTrustDomains() {
			out.TrustDomains = append(out.TrustDomains, r.must("trust domain", td, maxName))
		}
	}
	if r.err != nil {
		return nil, r.err
	}
	return out, nil
}
