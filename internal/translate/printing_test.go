// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

var byValue = []cmp.Option{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
	cmpopts.EquateEmpty(),
}

// printMesh is an Output's mesh, one line per value.
func printMesh(o Output) string {
	var lines []string
	add := func(format string, args ...any) {
		lines = append(lines, strings.TrimRight(fmt.Sprintf(format, args...), " "))
	}
	for _, s := range o.Mesh.Services {
		var vips, ports []string
		for _, a := range s.Addresses {
			vips = append(vips, a.Network+"/"+a.Addr.String())
		}
		for _, p := range s.Ports {
			ports = append(ports, printPort(p))
		}
		line := fmt.Sprintf("service  %s vips=%s ports=%s", s.Key(), strings.Join(vips, ","), strings.Join(ports, ","))
		if !s.Canonical {
			line += " remote-only"
		}
		if s.Exported {
			line += " exported"
		}
		if s.Waypoint != nil {
			line += " waypoint=" + printGateway(s.Waypoint)
		}
		for _, c := range s.Consumers {
			line += " waypoint-of-" + c.Namespace + "=" + printGateway(&c.At)
		}
		if s.Balance.Mode != mesh.BalanceSpread {
			line += " " + map[mesh.BalanceMode]string{mesh.BalanceStrict: "strict", mesh.BalanceFailover: "failover"}[s.Balance.Mode]
			for _, p := range s.Balance.Preference {
				line += ">" + []string{"?", "region", "zone", "subzone", "node", "cluster", "network"}[p]
			}
		}
		if s.Balance.AllowUnhealthy {
			line += " unhealthy-too"
		}
		for _, san := range s.SANs {
			line += " last=" + san
		}
		add("%s", line)
	}
	for _, w := range o.Mesh.Workloads {
		line := "workload " + w.UID + " network=" + w.Network
		for _, a := range w.Addresses {
			line += " at=" + a.String()
		}
		if w.Hostname != "" {
			line += " at=" + w.Hostname
		}
		if w.ServiceAccount != "" {
			line += " id=" + w.Identity().String()
		}
		if w.Tunnel == mesh.TunnelHBONE {
			line += " hbone"
		}
		if w.Confines {
			line += " confines"
		}
		if w.Unhealthy {
			line += " unhealthy"
		}
		if w.Gateway {
			line += " gateway"
		}
		if w.HostNetwork {
			line += " hostnetwork"
		}
		if w.Capacity != 1 || w.NetworkGateway != nil {
			line += fmt.Sprintf(" capacity=%d", w.Capacity)
		}
		if w.NetworkGateway != nil {
			line += " via=" + printGateway(w.NetworkGateway)
		}
		if w.Waypoint != nil {
			line += " waypoint=" + printGateway(w.Waypoint)
		}
		if w.AppTunnel != nil {
			line += fmt.Sprintf(" app-tunnel=%d", w.AppTunnel.Port)
			if w.AppTunnel.Proxy {
				line += "/proxy"
			}
		}
		if w.Locality != (mesh.Locality{}) {
			line += fmt.Sprintf(" locality=%s/%s", w.Locality.Region, w.Locality.Zone)
		}
		var services []string
		for k, ports := range w.Services {
			s := k.Hostname + "["
			for i, p := range ports {
				if i > 0 {
					s += ","
				}
				s += printPort(p)
			}
			services = append(services, s+"]")
		}
		slices.Sort(services)
		if len(services) > 0 {
			line += " services=" + strings.Join(services, ",")
		}
		if len(w.Policies) > 0 {
			line += " policies=" + strings.Join(w.Policies, ",")
		}
		add("%s", line)
	}
	for k, g := range o.Mesh.Gateways {
		line := "gateway  " + k.String() + " network=" + g.Network
		for _, l := range g.Listeners {
			line += fmt.Sprintf(" %s=%d", l.Name, l.Port)
			if l.Bind != l.Port {
				line += fmt.Sprintf(">%d", l.Bind)
			}
		}
		if len(g.TrustDomains) > 1 {
			line += " from=" + strings.Join(g.TrustDomains, ",")
		}
		for _, e := range g.Exports {
			line += " exports=" + e.String()
		}
		if g.Service != (mesh.ServiceKey{}) {
			line += " waypoint-at=" + g.Service.String()
		}
		for _, f := range g.Fronts {
			if !slices.Contains(g.Consumed, f) {
				line += " fronts=" + f.String()
			}
		}
		for _, f := range g.Consumed {
			line += " consumes=" + f.String()
		}
		add("%s", line)
		lines = append(lines, printRouting(g)...)
		for _, p := range g.Policies {
			add("guard    %s %s %s", k, p.Key(), printRules(p))
		}
		for _, of := range g.ServicePolicies {
			for _, p := range of.Policies {
				add("guard    %s to %s %s %s", k, of.Service, p.Key(), printRules(p))
			}
		}
	}
	for k, p := range o.Mesh.Policies {
		add("policy   %s %s %s", k, []string{"global", "namespace", "workloads"}[p.Scope], printRules(p))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

func printRules(p *mesh.Policy) string {
	out := []string{"allow", "deny"}[p.Action]
	if p.DryRun {
		out += " dry-run"
	}
	for _, r := range p.Rules {
		out += " rule"
		for _, c := range r.Clauses {
			out += printClause(c)
		}
	}
	return out
}

// printClause prints the alternatives of a clause, each with the fields that it has.
func printClause(c mesh.PolicyClause) string {
	alternatives := make([]string, 0, len(c.Matches))
	for _, m := range c.Matches {
		var fields []string
		v := reflect.ValueOf(m)
		for i := range v.NumField() {
			if f := v.Field(i); f.Kind() == reflect.Pointer {
				if m.Request != nil {
					fields = append(fields, printRequest(m.Request))
				}
			} else if f.Len() > 0 {
				fields = append(fields, fmt.Sprintf("%s%v", v.Type().Field(i).Name, v.Field(i)))
			}
		}
		alternatives = append(alternatives, strings.Join(fields, " and "))
	}
	return "(" + strings.Join(alternatives, " or ") + ")"
}

func printRequest(r *mesh.RequestMatch) string {
	var fields []string
	v := reflect.ValueOf(*r)
	for i := range v.NumField() {
		if v.Field(i).Len() > 0 {
			fields = append(fields, fmt.Sprintf("%s%v", v.Type().Field(i).Name, v.Field(i)))
		}
	}
	return strings.Join(fields, " and ")
}

func printGateway(g *mesh.GatewayAddress) string {
	if g.Addr.Addr.IsValid() {
		return netip.AddrPortFrom(g.Addr.Addr, g.Port).String()
	}
	return fmt.Sprintf("%s:%d", g.Hostname, g.Port)
}

func printPort(p mesh.Port) string {
	out := fmt.Sprintf("%d>%d", p.Service, p.Target)
	if p.App != mesh.AppUnknown {
		out += "/" + []string{"", "http", "http2", "grpc", "tcp", "tls"}[p.App]
	}
	return out
}

// printStatus is everything else of an Output.
func printStatus(o Output) string {
	var lines []string
	add := func(format string, args ...any) {
		lines = append(lines, strings.TrimRight(fmt.Sprintf(format, args...), " "))
	}
	for ref, findings := range o.Findings {
		for _, f := range findings {
			if f.Status == "True" && (f.Reason == f.Type) || f.Reason == "NoConflicts" {
				continue // as it should be
			}
			on := ref.String()
			if f.Listener != "" {
				on += " listener " + f.Listener
			}
			if p := f.Parent; p.Name != "" {
				on += " at " + p.Namespace + "/" + p.Name
				if p.Section != "" {
					on += "/" + p.Section
				}
				if p.Port != 0 {
					on += fmt.Sprintf(":%d", p.Port)
				}
			}
			add("finding  %s: %s=%s %s: %s", on, f.Type, f.Status, f.Reason, f.Message)
		}
	}
	for k, p := range o.Gateways {
		kind := p.ServiceType
		if p.Name != k.Name {
			kind = "as " + p.Name + " " + kind
		}
		if p.Unmanaged {
			kind = "unmanaged"
		}
		if p.Kept {
			kind += " and kept as it was"
		}
		line := fmt.Sprintf("plan     %s %s network=%s listeners=%d addresses=%s", k, kind, p.Network, len(p.Listeners), strings.Join(p.Addresses, ","))
		if p.Overlay != nil {
			line += " overlay=" + p.Overlay.Name
		}
		add("%s", line)
	}
	for k, addresses := range o.GatewayAddresses {
		for _, a := range addresses {
			add("address  %s %s %s", k, a.Type, a.Value)
		}
	}
	for k, s := range o.Scopes {
		if s.Global+s.Local == 0 {
			continue
		}
		line := fmt.Sprintf("scope    %s global=%d local=%d", k, s.Global, s.Local)
		for _, c := range s.Conflicts {
			line += fmt.Sprintf(" conflict=%s/%s%v: %s", c.Namespace, c.Name, c.Clusters, c.Message)
		}
		add("%s", line)
	}
	for c, r := range o.Remotes {
		line := fmt.Sprintf("remote   %s network=%s services=%d endpoints=%d", c, r.Network, r.Services, r.Endpoints)
		for _, n := range []struct {
			what  string
			count int
		}{{"left-out", r.LeftOut}, {"strangers", r.Strangers}, {"refused-pods", r.RefusedPods}, {"astray", r.Astray}, {"refused-doors", r.RefusedDoors}, {"unpermitted-doors", r.UnpermittedDoors}, {"crowded-doors", r.CrowdedDoors}, {"taken-doors", r.TakenDoors}, {"refused-networks", r.RefusedNetworks}, {"refused-scopes", r.RefusedScopes}, {"scattered", r.Scattered}} {
			if n.count > 0 {
				line += fmt.Sprintf(" %s=%d", n.what, n.count)
			}
		}
		add("%s", line)
	}
	lines = append(lines, printListeners(o)...)
	for k, of := range o.WantVIPs {
		names := make([]string, len(of))
		for i, c := range of {
			names[i] = string(c)
		}
		add("want-vip %s for %s", k, strings.Join(names, ","))
	}
	slices.Sort(lines)
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines, "\n") + "\n"
}
