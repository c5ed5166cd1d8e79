// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// anchors finds the CA certificates that an object refers to, PEM, and says which references lead to none; invalid and kind are the reasons for that.
// What it may refer to is noted as wanted, whether it is known yet or not; unread says that some of it is not. Unnamed, the problems are for somebody who may not read the object: they
// say which reference it is, and what kind of fault, but none of its names.
func (x *index) anchors(from world.ObjectRef, field string, refs []world.SecretRef, wanted set[world.ObjectRef], invalid, kind string, unnamed bool) (pem string, problems trouble, unread bool) {
	for i, ref := range refs {
		fault := func(reason, what, format string, args ...any) {
			if !unnamed {
				what = fmt.Sprintf(format, args...)
			}
			problems.add(reason, "%s[%d]: %s", field, i, what)
		}
		if !readable(ref) {
			fault(kind, "its kind is not supported", "kind %s of group %q is not supported, only ConfigMap and Secret are", ref.Kind, ref.Group)
			continue
		}
		asked := x.refer(from, ref, wanted)
		// Who may not refer learns nothing of what is there.
		if !asked.granted {
			fault(string(gatewayv1.ListenerReasonRefNotPermitted), "no ReferenceGrant allows it", "no ReferenceGrant in namespace %s allows %ss of namespace %s to refer to %s %s",
				ref.Namespace, from.Kind, from.Namespace, ref.Kind, ref.Name)
			continue
		}
		o := asked.to
		if !asked.taken {
			fault(invalid, "it is not read, as too many are referred to", "%s", x.notRead(o, from.Namespace))
			continue
		}
		certificates, problem, there := x.anchorsOf(o)
		switch {
		case x.unread(o):
			unread = true
			fault(invalid, "it was not read yet", "%s %s/%s was not read yet", ref.Kind, ref.Namespace, ref.Name)
		case !there:
			fault(invalid, "it is not there", "there is no %s %s/%s", ref.Kind, ref.Namespace, ref.Name)
		case problem != "":
			fault(invalid, "it has no CA certificates that can be used", "%s %s/%s: %s", ref.Kind, ref.Namespace, ref.Name, problem)
		default:
			pem += certificates
		}
	}
	return pem, problems, unread
}

// readable says whether a reference is to something that may hold CA certificates.
func readable(ref world.SecretRef) bool {
	return ref.Group == "" && (ref.Kind == string(world.KindAnchors) || ref.Kind == string(world.KindSecret))
}

// anchorsOf are the CA certificates of a ConfigMap or Secret.
func (x *index) anchorsOf(o world.ObjectRef) (certificates, problem string, there bool) {
	if o.Kind == world.KindSecret {
		if s := x.state.Secrets[o.Key]; s != nil && !s.Absent {
			return s.Anchors, s.AnchorsProblem, true
		}
	} else if a := x.state.Anchors[o.Key]; a != nil && !a.Absent {
		return a.Certificates, a.Problem, true
	}
	return "", "", false
}

// notRead says why something that is referred to is not read.
func (x *index) notRead(o world.ObjectRef, namespace string) string {
	return fmt.Sprintf("%s %s/%s is not read: all namespaces refer to more than %d Secrets and ConfigMaps, of which the %d that namespace %s may have are taken",
		o.Kind, o.Namespace, o.Name, x.maxSecrets, x.demand.most, namespace)
}

// validation is what a Gateway wants clients of a port's HTTPS listeners to prove; nil: nothing.
func validation(g *world.Gateway, port uint16) *world.ClientValidation {
	if i := slices.IndexFunc(g.PortClients, func(p world.PortValidation) bool { return p.Port == port }); i >= 0 {
		return g.PortClients[i].Validation
	}
	return g.Clients
}

// judgeClients settles what clients of a listener for HTTPS prove. Without any CA nobody could, so that it is not served. While a CA was not read yet they prove what they did
// before, but never less than they are to.
func (x *index) judgeClients(g *world.Gateway, v *listenerVerdict, wanted set[world.ObjectRef]) {
	now, unread := resolved{}, false
	if want := validation(g, v.listener.Port); want != nil {
		now.from, now.clients = want.CAs, &mesh.ClientValidation{Insecure: want.Insecure}
		field := "tls.frontend: caCertificateRefs"
		if v.set != nil {
			field = "the Gateway's " + field
		}
		now.clients.CAs, now.refs, unread = x.anchors(g.Ref(), field, want.CAs, wanted,
			string(gatewayv1.ListenerReasonInvalidCACertificateRef), string(gatewayv1.ListenerReasonInvalidCACertificateKind), v.set != nil)
	}
	found := x.settle(referrer{g.Ref(), fmt.Sprintf("clients of %s at port %d", v.name(), v.listener.Port)}, now, unread)
	if found.refs.reason != "" {
		v.refs.add(found.refs.reason, "%s", found.refs.message)
	}
	if found.clients != nil && found.clients.CAs == "" && v.reason == "" {
		v.reason, v.message = gatewayv1.ListenerReasonNoValidCACertificate, "no CA certificate to know clients by: "+found.refs.message
	}
	v.clients = found.clients
}

// shuts says whether a Gateway asks its clients to prove what nobody could judge, or for something else that is not served and may be to keep them out. Its gateway is told so in any case:
// otherwise it would go on as before, and let everybody in. What a set asks for that is not served ends its own listener, and not those of others.
func (at *gate) shuts() bool {
	return slices.ContainsFunc(at.verdicts, func(v listenerVerdict) bool {
		return v.reason == gatewayv1.ListenerReasonNoValidCACertificate || v.set == nil && v.reason == gatewayv1.ListenerReasonUnsupportedValue && keepsOut(v.listener)
	})
}

// insecure says whether a Gateway lets in clients that prove nothing although it asks them to.
func insecure(g *world.Gateway) bool {
	return g.Clients != nil && g.Clients.Insecure ||
		slices.ContainsFunc(g.PortClients, func(p world.PortValidation) bool { return p.Validation != nil && p.Validation.Insecure })
}

// proof is what a Gateway proves to backends.
type proof struct {
	certificate *mesh.Certificate // nil: nothing
	refs        trouble
}

// proofOf finds it.
func (x *index) proofOf(g *world.Gateway, wanted set[world.ObjectRef]) proof {
	var from []world.SecretRef // without any it is remembered that there was none
	if g.ClientCertificate != nil {
		from = append(from, *g.ClientCertificate)
	}
	found, refs, _ := x.certificates(referrer{g.Ref(), "to backends"}, "tls.backend.clientCertificateRef", from, wanted, string(gatewayv1.GatewayReasonInvalidClientCertificateRef))
	if len(found) == 0 {
		return proof{refs: refs}
	}
	return proof{certificate: &found[0]}
}

// reportTLS says what is to be said of a Gateway's own TLS.
func (x *index) reportTLS(at *gate, add func(listener, kind string, holds bool, reason, message string)) {
	g := at.gateway
	unresolved := 0
	for i := range g.Listeners { // its own, which come first: those of ListenerSets are summed up by nobody
		if at.verdicts[i].refs.reason != "" {
			unresolved++
		}
	}
	switch refs := at.proof.refs; {
	case refs.reason != "":
		add("", string(gatewayv1.GatewayConditionResolvedRefs), false, refs.reason, refs.message+"; backends are shown no certificate")
	case unresolved > 0:
		add("", string(gatewayv1.GatewayConditionResolvedRefs), false, string(gatewayv1.GatewayReasonListenersNotResolved),
			fmt.Sprintf("%d of %d listeners refer to something that is missing or not allowed; see their conditions", unresolved, len(g.Listeners)))
	default:
		add("", string(gatewayv1.GatewayConditionResolvedRefs), true, string(gatewayv1.GatewayReasonResolvedRefs), "the Gateway and its listeners refer to nothing that is missing")
	}
	if insecure(g) {
		add("", string(gatewayv1.GatewayConditionInsecureFrontendValidationMode), true, string(gatewayv1.GatewayReasonConfigurationChanged),
			"tls.frontend: mode AllowInsecureFallback lets in clients without a valid certificate")
	}
}
