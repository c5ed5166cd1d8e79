// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/xds/pb/gatewaypb"
)

// maxCAs bounds the CA certificates of one backend or listener, in bytes of PEM: those of sixteen objects of a MiB.
const maxCAs = 16 << 20

func backendTLSToProto(in []mesh.BackendTLS) []*gatewaypb.BackendTLS {
	var out []*gatewaypb.BackendTLS
	for _, b := range in {
		to := &gatewaypb.BackendTLS{
			Service: &gatewaypb.ServiceKey{Namespace: b.Service.Namespace, Hostname: b.Service.Hostname},
			Port:    uint32(b.Port), Problem: b.Problem, ServerName: b.ServerName, Cas: b.CAs, System: b.System,
		}
		for _, n := range b.SANs {
			to.Sans = append(to.Sans, &gatewaypb.SubjectAltName{Uri: n.URI, Value: n.Value})
		}
		out = append(out, to)
	}
	return out
}

// backendTLS reads how backends are spoken to. What cannot be read spoils the whole, for without it they would be spoken to in the clear.
func (r *reader) backendTLS(in []*gatewaypb.BackendTLS) []mesh.BackendTLS {
	if len(in) == 0 || !r.count("backend_tls", len(in), maxMembers) {
		return nil
	}
	out := make([]mesh.BackendTLS, 0, len(in))
	for _, b := range in {
		to := mesh.BackendTLS{
			Service: r.serviceKey("backend_tls", b.GetService().GetNamespace(), b.GetService().GetHostname()),
			Port:    r.port("backend_tls port", b.GetPort(), false),
			Problem: r.text("backend_tls problem", b.GetProblem(), maxValue), ServerName: r.text("server name", b.GetServerName(), maxName),
			CAs: r.text("backend_tls cas", b.GetCas(), maxCAs), System: b.GetSystem(),
		}
		if n := len(b.GetSans()); n > 0 && r.count("backend_tls sans", n, maxMembers) {
			for _, n := range b.GetSans() {
				to.SANs = append(to.SANs, mesh.SubjectAltName{URI: n.GetUri(), Value: r.must("subject alternative name", n.GetValue(), maxIdentity)})
			}
		}
		if r.err == nil && to.Problem == "" && (to.ServerName == "" || to.CAs == "" && !to.System) {
			r.fail("backend_tls of %s:%d does not say whom to expect", to.Service, to.Port)
		}
		if r.err != nil {
			return nil
		}
		out = append(out, to)
	}
	for i := 1; i < len(out); i++ {
		if mesh.CompareBackendTLS(out[i-1], out[i]) >= 0 {
			r.fail("backend_tls is not in order, or has %s:%d twice", out[i].Service, out[i].Port)
			return nil
		}
	}
	return slices.Clip(out)
}

func certificateToProto(c *mesh.Certificate) *gatewaypb.Certificate {
	if c == nil {
		return nil
	}
	return &gatewaypb.Certificate{Chain: c.Chain, Key: c.Key}
}

func (r *reader) certificate(c *gatewaypb.Certificate) *mesh.Certificate {
	if c == nil {
		return nil
	}
	return &mesh.Certificate{Chain: r.must("certificate chain", c.GetChain(), maxPEM), Key: r.must("certificate key", c.GetKey(), maxPEM)}
}

func clientsToProto(c *mesh.ClientValidation) *gatewaypb.ClientValidation {
	if c == nil {
		return nil
	}
	return &gatewaypb.ClientValidation{Cas: c.CAs, Insecure: c.Insecure}
}

func (r *reader) clients(c *gatewaypb.ClientValidation) *mesh.ClientValidation {
	if c == nil {
		return nil
	}
	return &mesh.ClientValidation{CAs: r.must("CAs of clients", c.GetCas(), maxCAs), Insecure: c.GetInsecure()}
}
