// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// printRouting is what a gateway is told of requests: a line per listener, and one per rule of the routes that they have.
func printRouting(g *mesh.Gateway) []string {
	var lines []string
	routes := map[*mesh.HTTPRoute]bool{}
	for _, l := range g.Listeners {
		if l.Protocol.TLS() {
			lines = append(lines, printTLS(g, l)...)
		}
		if l.Protocol == mesh.ListenerTCP || l.Protocol == mesh.ListenerUDP {
			lines = append(lines, printStream(g, l))
		}
		if !l.Protocol.HTTP() {
			continue
		}
		line := fmt.Sprintf("listener %s %s:%d", g.Key(), l.Name, l.Port)
		if l.Hostname != "" {
			line += " host=" + l.Hostname
		}
		if l.Protocol == mesh.ListenerHTTPS {
			line += fmt.Sprintf(" certificates=%d", len(l.Certificates))
		}
		if c := l.Clients; c != nil {
			line += fmt.Sprintf(" clients=%d", strings.Count(c.CAs, "BEGIN CERTIFICATE"))
			if c.Insecure {
				line += " insecure"
			}
		}
		for _, r := range l.Routes {
			if r.GRPC {
				line += " grpc"
			}
			line += " route=" + r.Key().String()
			routes[r] = true
		}
		lines = append(lines, line)
	}
	for _, of := range g.ServiceRoutes {
		line := fmt.Sprintf("at-service %s %s:%d", g.Key(), of.Service, of.Port)
		if of.Consumer != "" {
			line += " for=" + of.Consumer
		}
		for _, r := range of.Routes {
			if r.GRPC {
				line += " grpc"
			}
			line += " route=" + r.Key().String()
			routes[r] = true
		}
		lines = append(lines, line)
	}
	for r := range routes {
		for i := range r.Rules {
			lines = append(lines, fmt.Sprintf("rule     %s of %s %d%s", r.Key(), g.Key(), i, printHTTPRule(&r.Rules[i], r.Hostnames)))
		}
	}
	for _, b := range g.BackendTLS {
		lines = append(lines, printBackendTLS(g, b))
	}
	if g.ClientCertificate != nil {
		lines = append(lines, fmt.Sprintf("proves   %s to backends", g.Key()))
	}
	return lines
}

func printBackendTLS(g *mesh.Gateway, b mesh.BackendTLS) string {
	line := fmt.Sprintf("tls      %s to %s:%d", g.Key(), b.Service, b.Port)
	if b.Problem != "" {
		return line + " problem=" + b.Problem
	}
	line += fmt.Sprintf(" name=%s cas=%d", b.ServerName, strings.Count(b.CAs, "BEGIN CERTIFICATE"))
	if b.System {
		line += " system"
	}
	for _, n := range b.SANs {
		line += map[bool]string{true: " uri=", false: " dns="}[n.URI] + n.Value
	}
	return line
}

func printTLS(g *mesh.Gateway, l mesh.Listener) []string {
	lines := []string{fmt.Sprintf("listener %s %s:%d tls", g.Key(), l.Name, l.Port)}
	if l.Protocol == mesh.ListenerTLSTerminate {
		lines[0] += fmt.Sprintf(" ends here host=%s certificates=%d", l.Hostname, len(l.Certificates))
	}
	for _, r := range l.TLSRoutes {
		line := fmt.Sprintf("tlsroute %s/%s of %s %s", r.Namespace, r.Name, g.Key(), l.Name)
		for _, h := range r.Hostnames {
			line += " host=" + h
		}
		lines = append(lines, line+printStreamBackends(r.Backends))
	}
	return lines
}

func printStream(g *mesh.Gateway, l mesh.Listener) string {
	line := fmt.Sprintf("listener %s %s:%d %s", g.Key(), l.Name, l.Port, map[mesh.ListenerProtocol]string{mesh.ListenerTCP: "tcp", mesh.ListenerUDP: "udp"}[l.Protocol])
	if l.Stream == nil {
		return line
	}
	return line + " route=" + l.Stream.Namespace + "/" + l.Stream.Name + printStreamBackends(l.Stream.Backends)
}

func printStreamBackends(backends []mesh.StreamBackend) string {
	out := ""
	for _, b := range backends {
		if b.Problem != "" {
			out += fmt.Sprintf(" to=(%s)*%d", b.Problem, b.Weight)
			continue
		}
		out += fmt.Sprintf(" to=%s:%d*%d", b.Service, b.Port, b.Weight)
		for _, e := range b.Endpoints {
			out += " at=" + e.String()
		}
	}
	return out
}

func printHTTPRule(r *mesh.HTTPRule, hostnames []string) string {
	out := ""
	if r.Name != "" {
		out += " " + r.Name
	}
	for _, h := range hostnames {
		out += " host=" + h
	}
	for _, m := range r.Matches {
		out += " " + map[bool]string{true: "path=", false: "prefix="}[m.Exact] + m.Path
		if m.RPC != "" {
			out += "&rpc=" + m.RPC
		}
		for _, s := range []string{m.Method, printPairs(m.Headers), printPairs(m.Query)} {
			if s != "" {
				out += "&" + s
			}
		}
	}
	out += printFilters(&r.Filters)
	if r.RequestTimeout+r.BackendTimeout > 0 {
		out += fmt.Sprintf(" timeouts=%s/%s", r.RequestTimeout, r.BackendTimeout)
	}
	if r.Retry != nil {
		out += fmt.Sprintf(" retry%v", *r.Retry)
	}
	if r.Problem != "" {
		out += fmt.Sprintf(" problem=%q", r.Problem)
	}
	for i := range r.Backends {
		out += fmt.Sprintf(" %d>%s", r.Backends[i].Weight, printBackend(&r.Backends[i]))
	}
	return out
}

func printBackend(b *mesh.HTTPBackend) string {
	if b.Problem != "" {
		return "500"
	}
	h2 := ""
	if b.HTTP2 {
		h2 = "/h2"
	}
	return fmt.Sprintf("%s:%d%s%s", b.Service.Hostname, b.Port, h2, printFilters(&b.Filters))
}

func printFilters(f *mesh.HTTPFilters) string {
	out := ""
	for _, change := range []struct {
		name string
		mesh.HeaderChange
	}{{"request", f.Request}, {"response", f.Response}} {
		if !change.Empty() {
			out += fmt.Sprintf(" %s(set=%s add=%s remove=%s)", change.name, printPairs(change.Set), printPairs(change.Add), strings.Join(change.Remove, ","))
		}
	}
	if f.Redirect != nil {
		out += fmt.Sprintf(" redirect%v", *f.Redirect)
	}
	if f.Rewrite != nil {
		out += fmt.Sprintf(" rewrite%v", *f.Rewrite)
	}
	if f.CORS != nil {
		out += fmt.Sprintf(" cors%v", *f.CORS)
	}
	for i := range f.Mirrors {
		out += fmt.Sprintf(" mirror(%d/%d>%s)", f.Mirrors[i].Numerator, f.Mirrors[i].Denominator, printBackend(&f.Mirrors[i].Backend))
	}
	return out
}

func printPairs(pairs []mesh.NameValue) string {
	out := make([]string, 0, len(pairs))
	for _, p := range pairs {
		out = append(out, p.Name+":"+p.Value)
	}
	return strings.Join(out, ",")
}

// printListeners is what of listeners' status is no condition; listeners without kinds and routes are not shown.
func printListeners(o Output) []string {
	var lines []string
	for ref, listeners := range o.Listeners {
		k := ref.Key.String()
		if ref.Kind != world.KindGateway {
			k = ref.String()
		}
		for _, l := range listeners {
			if len(l.Kinds)+l.Attached > 0 {
				lines = append(lines, fmt.Sprintf("attached %s %s=%d %s", k, l.Name, l.Attached, strings.Join(l.Kinds, ",")))
			}
		}
	}
	for k, n := range o.AttachedSets {
		lines = append(lines, fmt.Sprintf("sets     %s=%d", k, n))
	}
	for _, namespace := range o.WantWaypoints {
		lines = append(lines, "want-waypoint "+namespace)
	}
	for _, o := range o.WantObjects {
		lines = append(lines, map[world.Kind]string{world.KindSecret: "want-secret ", world.KindAnchors: "want-configmap "}[o.Kind]+o.Key.String())
	}
	slices.Sort(lines)
	return lines
}
