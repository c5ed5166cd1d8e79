// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// certificates finds what a listener of a Gateway or a ListenerSet proves by. Secrets that it may refer to are noted as wanted, whether they are known yet or not.
func (x *index) certificates(owner world.ObjectRef, l world.Listener, wanted set[world.Key]) (out []mesh.Certificate, refs trouble) {
	for i, ref := range l.Certificates {
		at := fmt.Sprintf("tls.certificateRefs[%d]", i)
		if ref.Group != "" || ref.Kind != string(world.KindSecret) {
			refs.add(string(gatewayv1.ListenerReasonInvalidCertificateRef), "%s: kind %s of group %q is not supported, only Secret is", at, ref.Kind, ref.Group)
			continue
		}
		// Who may not refer learns nothing of what is there.
		if !x.granted(owner.Key, owner.Kind, world.GrantTo{Kind: ref.Kind, Name: ref.Name}, ref.Namespace) {
			refs.add(string(gatewayv1.ListenerReasonRefNotPermitted), "%s: no ReferenceGrant in namespace %s allows %ss of namespace %s to refer to Secret %s", at, ref.Namespace, owner.Kind, owner.Namespace, ref.Name)
			continue
		}
		k := owner.In(ref.Namespace, ref.Name)
		if !x.demand.take(owner.Namespace, k) {
			refs.add(string(gatewayv1.ListenerReasonInvalidCertificateRef), "%s: Secret %s/%s is not read: Gateways of all namespaces refer to more than %d Secrets, of which the %d that those of namespace %s may have are taken",
				at, ref.Namespace, ref.Name, x.maxSecrets, x.demand.most, owner.Namespace)
			continue
		}
		wanted.add(k)
		s := x.state.Secrets[k]
		switch {
		case s == nil:
			refs.add(string(gatewayv1.ListenerReasonInvalidCertificateRef), "%s: there is no Secret %s/%s", at, ref.Namespace, ref.Name)
		case s.Problem != "":
			refs.add(string(gatewayv1.ListenerReasonInvalidCertificateRef), "%s: Secret %s/%s: %s", at, ref.Namespace, ref.Name, s.Problem)
		default:
			out = append(out, mesh.Certificate{Chain: s.Chain, Key: s.PrivateKey})
		}
	}
	return out, refs
}
