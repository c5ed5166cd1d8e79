// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"math"
	"strconv"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds/pb/gatewaypb"
)

// routeTable gives each route of a gateway one place on the wire, however many listeners it attaches to.
type routeTable struct {
	places map[*mesh.HTTPRoute]uint32
	routes []*mesh.HTTPRoute
}

func (t *routeTable) place(r *mesh.HTTPRoute) uint32 {
	if at, ok := t.places[r]; ok {
		return at
	}
	at := uint32(len(t.routes))
	t.places[r] = at
	t.routes = append(t.routes, r)
	return at
}

func (t *routeTable) listener(l mesh.Listener) *gatewaypb.Listener {
	out := &gatewaypb.Listener{
		Name: l.Name, Port: uint32(l.Port), Bind: uint32(l.Bind), Protocol: gatewaypb.Listener_Protocol(l.Protocol), Hostname: l.Hostname,
	}
	for _, c := range l.Certificates {
		out.Certificates = append(out.Certificates, certificateToProto(&c))
	}
	for _, r := range l.Routes {
		out.HttpRoutes = append(out.HttpRoutes, t.place(r))
	}
	for _, r := range l.TLSRoutes {
		out.TlsRoutes = append(out.TlsRoutes, tlsRouteToProto(r))
	}
	out.Stream, out.Clients = streamRouteToProto(l.Stream), clientsToProto(l.Clients)
	return out
}

func routeToProto(r *mesh.HTTPRoute) *gatewaypb.HTTPRoute {
	out := &gatewaypb.HTTPRoute{Namespace: r.Namespace, Name: r.Name, Created: r.Created, Hostnames: r.Hostnames, Grpc: r.GRPC}
	for i := range r.Rules {
		rule := &r.Rules[i]
		to := &gatewaypb.HTTPRule{
			Name: rule.Name, Filters: filtersToProto(&rule.Filters), Problem: rule.Problem,
			RequestTimeout: int64(rule.RequestTimeout), BackendTimeout: int64(rule.BackendTimeout), Retry: retryToProto(rule.Retry),
		}
		for _, m := range rule.Matches {
			to.Matches = append(to.Matches, &gatewaypb.HTTPMatch{
				Path: m.Path, Exact: m.Exact, Method: m.Method, Rpc: m.RPC, Headers: pairsToProto(m.Headers), Query: pairsToProto(m.Query),
			})
		}
		for j := range rule.Backends {
			to.Backends = append(to.Backends, backendToProto(&rule.Backends[j]))
		}
		out.Rules = append(out.Rules, to)
	}
	return out
}

func pairsToProto(in []mesh.NameValue) []*gatewaypb.NameValue {
	var out []*gatewaypb.NameValue
	for _, p := range in {
		out = append(out, &gatewaypb.NameValue{Name: p.Name, Value: p.Value})
	}
	return out
}

func headersToProto(h mesh.HeaderChange) *gatewaypb.HeaderChange {
	if h.Empty() {
		return nil
	}
	return &gatewaypb.HeaderChange{Set: pairsToProto(h.Set), Add: pairsToProto(h.Add), Remove: h.Remove}
}

func pathToProto(p mesh.PathChange) *gatewaypb.PathChange {
	if p == (mesh.PathChange{}) {
		return nil
	}
	return &gatewaypb.PathChange{Kind: gatewaypb.PathChange_Kind(p.Kind), Value: p.Value}
}

func filtersToProto(f *mesh.HTTPFilters) *gatewaypb.HTTPFilters {
	out := &gatewaypb.HTTPFilters{Request: headersToProto(f.Request), Response: headersToProto(f.Response), Cors: corsToProto(f.CORS)}
	if r := f.Redirect; r != nil {
		out.Redirect = &gatewaypb.HTTPRedirect{Scheme: r.Scheme, Hostname: r.Hostname, Path: pathToProto(r.Path), Port: uint32(r.Port), Status: uint32(r.Status)}
	}
	if r := f.Rewrite; r != nil {
		out.Rewrite = &gatewaypb.HTTPRewrite{Hostname: r.Hostname, Path: pathToProto(r.Path)}
	}
	for i := range f.Mirrors {
		m := &f.Mirrors[i]
		out.Mirrors = append(out.Mirrors, &gatewaypb.HTTPMirror{Backend: backendToProto(&m.Backend), Numerator: m.Numerator, Denominator: m.Denominator})
	}
	if out.Request == nil && out.Response == nil && out.Redirect == nil && out.Rewrite == nil && out.Mirrors == nil && out.Cors == nil {
		return nil
	}
	return out
}

func backendToProto(b *mesh.HTTPBackend) *gatewaypb.HTTPBackend {
	return &gatewaypb.HTTPBackend{Service: serviceKeyToProto(b.Service), Port: uint32(b.Port), Weight: b.Weight, Http2: b.HTTP2, Problem: b.Problem, Filters: filtersToProto(&b.Filters)}
}

// protocols that a listener may have.
var protocols = map[gatewaypb.Listener_Protocol]mesh.ListenerProtocol{
	gatewaypb.Listener_HBONE:    mesh.ListenerHBONE,
	gatewaypb.Listener_HTTP:     mesh.ListenerHTTP,
	gatewaypb.Listener_HTTPS:    mesh.ListenerHTTPS,
	gatewaypb.Listener_TLS:      mesh.ListenerTLS,
	gatewaypb.Listener_WAYPOINT: mesh.ListenerWaypoint,
	gatewaypb.Listener_TCP:      mesh.ListenerTCP,
	gatewaypb.Listener_UDP:      mesh.ListenerUDP,

	gatewaypb.Listener_TLS_TERMINATE: mesh.ListenerTLSTerminate,
}

// listeners reads a gateway's listeners, which name routes of the gateway by their places.
func (r *reader) listeners(in []*gatewaypb.Listener, routes []*mesh.HTTPRoute) []mesh.Listener {
	if len(in) == 0 || !r.count("listeners", len(in), maxMembers) {
		return nil
	}
	out := make([]mesh.Listener, 0, len(in))
	for _, l := range in {
		protocol, known := protocols[l.GetProtocol()]
		if !known {
			r.fail("listener %q has the protocol %d, which is not known", l.GetName(), l.GetProtocol())
			return nil
		}
		to := mesh.Listener{
			Name:     r.must("listener name", l.GetName(), maxListener),
			Port:     r.port("listener port", l.GetPort(), false),
			Bind:     r.port("listener bind port", l.GetBind(), false),
			Protocol: protocol,
			Hostname: r.text("listener hostname", l.GetHostname(), maxName),
		}
		for _, c := range l.GetCertificates() {
			if c := r.certificate(c); c != nil {
				to.Certificates = append(to.Certificates, *c)
			}
		}
		to.Routes = r.places("listener "+strconv.Quote(to.Name), l.GetHttpRoutes(), routes)
		to.TLSRoutes, to.Stream, to.Clients = r.tlsRoutes(l.GetTlsRoutes()), r.streamRoute(l.GetStream()), r.clients(l.GetClients())
		out = append(out, to)
	}
	return out
}

// places gives the routes that something names by their places.
func (r *reader) places(of string, in []uint32, routes []*mesh.HTTPRoute) []*mesh.HTTPRoute {
	if len(in) == 0 || !r.count("http_routes", len(in), maxMembers) {
		return nil
	}
	out := make([]*mesh.HTTPRoute, 0, len(in))
	for _, at := range in {
		if int(at) >= len(routes) {
			r.fail("%s names route %d of %d", of, at, len(routes))
			return nil
		}
		out = append(out, routes[at])
	}
	return out
}

// route reads a route, as far as the wire says more than a route can be; what of it is not taken is for HTTPRoute.Fault to say.
func (r *reader) route(in *gatewaypb.HTTPRoute) *mesh.HTTPRoute {
	out := &mesh.HTTPRoute{
		Namespace: in.GetNamespace(), Name: in.GetName(), Created: in.GetCreated(), GRPC: in.GetGrpc(), Hostnames: in.GetHostnames(),
	}
	for _, from := range in.GetRules() {
		rule := mesh.HTTPRule{
			Name: from.GetName(), Filters: r.filters(from.GetFilters(), 0), Problem: from.GetProblem(),
			RequestTimeout: time.Duration(from.GetRequestTimeout()), BackendTimeout: time.Duration(from.GetBackendTimeout()), Retry: retryFromProto(from.GetRetry()),
		}
		for _, m := range from.GetMatches() {
			rule.Matches = append(rule.Matches, mesh.HTTPMatch{
				Path: m.GetPath(), Exact: m.GetExact(), Method: m.GetMethod(), RPC: m.GetRpc(), Headers: pairs(m.GetHeaders()), Query: pairs(m.GetQuery()),
			})
		}
		for _, b := range from.GetBackends() {
			rule.Backends = append(rule.Backends, r.backend(b, 0))
		}
		out.Rules = append(out.Rules, rule)
	}
	return out
}

func (r *reader) texts(field string, in []string, limit int) []string {
	if len(in) == 0 || !r.count(field, len(in), maxMembers) {
		return nil
	}
	for _, s := range in {
		r.must(field, s, limit)
	}
	return in
}

func pairs(in []*gatewaypb.NameValue) []mesh.NameValue {
	var out []mesh.NameValue
	for _, p := range in {
		out = append(out, mesh.NameValue{Name: p.GetName(), Value: p.GetValue()})
	}
	return out
}

func headerChange(h *gatewaypb.HeaderChange) mesh.HeaderChange {
	return mesh.HeaderChange{Set: pairs(h.GetSet()), Add: pairs(h.GetAdd()), Remove: h.GetRemove()}
}

func (r *reader) pathChange(p *gatewaypb.PathChange) mesh.PathChange {
	if k := p.GetKind(); k < gatewaypb.PathChange_KEPT || k > gatewaypb.PathChange_PREFIX_REPLACED {
		r.fail("path change has the kind %d, which is not known", k)
		return mesh.PathChange{}
	}
	return mesh.PathChange{Kind: mesh.PathChangeKind(p.GetKind()), Value: p.GetValue()}
}

// maxNesting is how deep filters hold backends that have filters: a rule's mirror's backend, and no more.
const maxNesting = 2

func (r *reader) filters(f *gatewaypb.HTTPFilters, depth int) mesh.HTTPFilters {
	if f == nil {
		return mesh.HTTPFilters{}
	}
	out := mesh.HTTPFilters{Request: headerChange(f.GetRequest()), Response: headerChange(f.GetResponse()), CORS: corsFromProto(f.GetCors())}
	if in := f.GetRedirect(); in != nil {
		out.Redirect = &mesh.HTTPRedirect{
			Scheme: in.GetScheme(), Hostname: in.GetHostname(), Path: r.pathChange(in.GetPath()),
			Port: r.port("redirect port", in.GetPort(), true), Status: uint16(min(in.GetStatus(), math.MaxUint16)),
		}
	}
	if in := f.GetRewrite(); in != nil {
		out.Rewrite = &mesh.HTTPRewrite{Hostname: in.GetHostname(), Path: r.pathChange(in.GetPath())}
	}
	for _, m := range f.GetMirrors() {
		out.Mirrors = append(out.Mirrors, mesh.HTTPMirror{
			Backend: r.backend(m.GetBackend(), depth+1), Numerator: m.GetNumerator(), Denominator: m.GetDenominator(),
		})
	}
	return out
}

func (r *reader) backend(b *gatewaypb.HTTPBackend, depth int) mesh.HTTPBackend {
	if depth > maxNesting {
		r.fail("backends are nested deeper than %d", maxNesting)
	}
	if r.err != nil {
		return mesh.HTTPBackend{}
	}
	return mesh.HTTPBackend{
		Service: mesh.ServiceKey{Namespace: b.GetService().GetNamespace(), Hostname: b.GetService().GetHostname()}, Port: r.port("backend port", b.GetPort(), true),
		Weight: b.GetWeight(), HTTP2: b.GetHttp2(), Problem: b.GetProblem(), Filters: r.filters(b.GetFilters(), depth),
	}
}
