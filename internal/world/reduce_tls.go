// SPDX-License-Identifier: Apache-2.0

package world

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// KeyAnchors is the key of a ConfigMap or Secret that holds CA certificates.
const KeyAnchors = "ca.crt"

// Gateway API's own limits.
const (
	maxPolicyTargets = 16
	maxBackendCAs    = 8
	maxFrontendCAs   = 16
	maxSANs          = 5
)

// ReduceBackendTLSPolicy keeps all but the status.
func ReduceBackendTLSPolicy(c Cluster, p *gatewayv1.BackendTLSPolicy) *BackendTLSPolicy {
	v := p.Spec.Validation
	out := &BackendTLSPolicy{Key: Key{c, p.Namespace, p.Name}, Generation: p.Generation, Hostname: strings.ToLower(string(v.Hostname))}
	if !p.CreationTimestamp.IsZero() {
		out.Created = p.CreationTimestamp.Unix()
	}
	for _, t := range p.Spec.TargetRefs[:min(len(p.Spec.TargetRefs), maxPolicyTargets)] {
		if t.Group == "" && t.Kind == gatewayv1.Kind(KindService) {
			out.Targets = append(out.Targets, NamedPort{string(t.Name), or(t.SectionName, "")})
		}
	}
	for _, r := range v.CACertificateRefs[:min(len(v.CACertificateRefs), maxBackendCAs)] {
		out.CAs = append(out.CAs, SecretRef{string(r.Group), string(r.Kind), p.Namespace, string(r.Name)})
	}
	out.WellKnown = or(v.WellKnownCACertificates, "")
	for _, n := range v.SubjectAltNames[:min(len(v.SubjectAltNames), maxSANs)] {
		if n.Type == gatewayv1.URISubjectAltNameType {
			out.SANs = append(out.SANs, SubjectAltName{true, string(n.URI)})
		} else {
			out.SANs = append(out.SANs, SubjectAltName{false, strings.ToLower(string(n.Hostname))})
		}
	}
	if len(p.Spec.Options) > 0 {
		out.Option = string(slices.Min(slices.Collect(maps.Keys(p.Spec.Options))))
	}
	return out
}

// ReduceAnchors keeps the CA certificates of a ConfigMap, or why there are none.
func ReduceAnchors(c Cluster, m *corev1.ConfigMap) *Anchors {
	out := &Anchors{Key: Key{c, m.Namespace, m.Name}}
	out.Certificates, out.Problem = anchorsIn([]byte(m.Data[KeyAnchors]))
	return out
}

// anchorsIn reads CA certificates, of which each must be one, and says why it cannot.
func anchorsIn(data []byte) (certificates, problem string) {
	if len(bytes.TrimSpace(data)) == 0 {
		return "", "it has no " + KeyAnchors
	}
	var out strings.Builder
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return "", fmt.Sprintf("%s holds something that is no certificate: %v", KeyAnchors, err)
		}
		out.Write(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes}))
	}
	if out.Len() == 0 {
		return "", KeyAnchors + " holds no certificate in PEM"
	}
	return out.String(), ""
}

// reduceTLS keeps what a Gateway proves to backends, and what its clients prove to it.
func (g *Gateway) reduceTLS(spec *gatewayv1.GatewayTLSConfig) {
	if spec == nil {
		return
	}
	if spec.Backend != nil && spec.Backend.ClientCertificateRef != nil {
		g.ClientCertificate = &reduceCertificateRefs(g.Namespace, []gatewayv1.SecretObjectReference{*spec.Backend.ClientCertificateRef})[0]
	}
	if spec.Frontend == nil {
		return
	}
	g.Clients = reduceClientValidation(g.Namespace, spec.Frontend.Default.Validation)
	for _, p := range spec.Frontend.PerPort[:min(len(spec.Frontend.PerPort), maxListeners)] {
		if isPort(p.Port) {
			g.PortClients = append(g.PortClients, PortValidation{uint16(p.Port), reduceClientValidation(g.Namespace, p.TLS.Validation)})
		}
	}
}

func reduceClientValidation(namespace string, v *gatewayv1.FrontendTLSValidation) *ClientValidation {
	if v == nil {
		return nil
	}
	out := &ClientValidation{Insecure: v.Mode == gatewayv1.AllowInsecureFallback}
	for _, r := range v.CACertificateRefs[:min(len(v.CACertificateRefs), maxFrontendCAs)] {
		out.CAs = append(out.CAs, SecretRef{bounded(string(r.Group)), bounded(string(r.Kind)), bounded(or(r.Namespace, namespace)), bounded(string(r.Name))})
	}
	return out
}
