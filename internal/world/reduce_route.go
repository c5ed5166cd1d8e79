// SPDX-License-Identifier: Apache-2.0

package world

import (
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// maxCertificateRefs is Gateway API's own limit of a listener's certificates.
const maxCertificateRefs = 64

// or gives what p points to, or the API's default.
func or[T ~string](p *T, empty string) string {
	if p == nil {
		return empty
	}
	return string(*p)
}

// ReduceHTTPRoute keeps all but the status.
func ReduceHTTPRoute(c Cluster, r *gatewayv1.HTTPRoute) *HTTPRoute {
	out := &HTTPRoute{Key: Key{c, r.Namespace, r.Name}, Generation: r.Generation, Rules: r.Spec.Rules}
	if !r.CreationTimestamp.IsZero() {
		out.Created = r.CreationTimestamp.Unix()
	}
	for _, p := range r.Spec.ParentRefs {
		out.Parents = append(out.Parents, ReduceParent(r.Namespace, p))
	}
	for _, h := range r.Spec.Hostnames {
		out.Hostnames = append(out.Hostnames, strings.ToLower(string(h)))
	}
	return out
}

// ReduceTLSRoute keeps all but the status.
func ReduceTLSRoute(c Cluster, r *gatewayv1.TLSRoute) *TLSRoute {
	out := &TLSRoute{Key: Key{c, r.Namespace, r.Name}, Generation: r.Generation, Rules: r.Spec.Rules}
	if !r.CreationTimestamp.IsZero() {
		out.Created = r.CreationTimestamp.Unix()
	}
	for _, p := range r.Spec.ParentRefs {
		out.Parents = append(out.Parents, ReduceParent(r.Namespace, p))
	}
	for _, h := range r.Spec.Hostnames {
		out.Hostnames = append(out.Hostnames, strings.ToLower(string(h)))
	}
	return out
}

// ReduceParent fills in what a reference of a route in a namespace leaves out.
func ReduceParent(namespace string, p gatewayv1.ParentReference) RouteParent {
	out := RouteParent{
		Group: or(p.Group, gatewayv1.GroupName), Kind: or(p.Kind, string(KindGateway)), Namespace: or(p.Namespace, namespace),
		Name: string(p.Name), Section: or(p.SectionName, ""),
	}
	if p.Port != nil && isPort(*p.Port) {
		out.Port = uint16(*p.Port)
	}
	return out
}

// ReduceReferenceGrant keeps all of it.
func ReduceReferenceGrant(c Cluster, g *gatewayv1.ReferenceGrant) *ReferenceGrant {
	out := &ReferenceGrant{Key: Key{c, g.Namespace, g.Name}}
	for _, f := range g.Spec.From {
		out.From = append(out.From, GrantFrom{string(f.Group), string(f.Kind), string(f.Namespace)})
	}
	for _, t := range g.Spec.To {
		out.To = append(out.To, GrantTo{string(t.Group), string(t.Kind), or(t.Name, "")})
	}
	return out
}

// ReduceSecret keeps the certificates of a Secret, or why there are none. It is for Secrets that are referred to, and no others.
func ReduceSecret(c Cluster, s *corev1.Secret) *Secret {
	out := &Secret{Key: Key{c, s.Namespace, s.Name}}
	chain, key := s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey]
	switch {
	case len(chain) == 0:
		out.Problem = "it has no " + corev1.TLSCertKey
	case len(key) == 0:
		out.Problem = "it has no " + corev1.TLSPrivateKeyKey
	default:
		if _, err := tls.X509KeyPair(chain, key); err != nil {
			out.Problem = fmt.Sprintf("%s and %s are no certificate and its key: %v", corev1.TLSCertKey, corev1.TLSPrivateKeyKey, err)
			break
		}
		if chain, key := blocks(chain, "CERTIFICATE"), blocks(key, "PRIVATE KEY"); max(len(chain), len(key)) > mesh.MaxPEM {
			out.Problem = fmt.Sprintf("%s or %s is longer than %d bytes", corev1.TLSCertKey, corev1.TLSPrivateKeyKey, mesh.MaxPEM)
		} else {
			out.Chain, out.PrivateKey = chain, key
		}
	}
	out.Anchors, out.AnchorsProblem = anchorsIn(s.Data[KeyAnchors])
	return out
}

// blocks are the blocks of PEM whose type ends so, and nothing of what may be around them: a Secret holds any bytes, and what is told to gateways is text.
func blocks(data []byte, kind string) string {
	var out strings.Builder
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return out.String()
		}
		if strings.HasSuffix(block.Type, kind) {
			out.Write(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes}))
		}
	}
}

func reduceCertificateRefs(namespace string, refs []gatewayv1.SecretObjectReference) []SecretRef {
	var out []SecretRef
	for _, r := range refs {
		if len(out) == maxCertificateRefs {
			break
		}
		out = append(out, SecretRef{
			Group: bounded(or(r.Group, "")), Kind: bounded(or(r.Kind, string(KindSecret))), Namespace: bounded(or(r.Namespace, namespace)), Name: bounded(string(r.Name)),
		})
	}
	return out
}
