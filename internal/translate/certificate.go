// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// certificates finds what a Gateway, or a listener of one or of a ListenerSet, proves by; invalid is the reason if there is none. Secrets that it may refer to are noted as
// wanted, whether they are known yet or not; while one of them is unread, it gives what was found last.
func (x *index) certificates(by referrer, field string, from []world.SecretRef, wanted set[world.ObjectRef], invalid string) (found []mesh.Certificate, refs trouble, unread bool) {
	owner := by.owner
	var out []mesh.Certificate
	for i, ref := range from {
		if slices.Contains(from[:i], ref) {
			continue // told once: a Secret may have a MiB
		}
		at := field
		if strings.HasSuffix(field, "Refs") {
			at = fmt.Sprintf("%s[%d]", field, i)
		}
		if ref.Group != "" || ref.Kind != string(world.KindSecret) {
			refs.add(invalid, "%s: kind %s of group %q is not supported, only Secret is", at, ref.Kind, ref.Group)
			continue
		}
		asked := x.refer(owner, ref, wanted)
		// Who may not refer learns nothing of what is there.
		if !asked.granted {
			refs.add(string(gatewayv1.ListenerReasonRefNotPermitted), "%s: no ReferenceGrant in namespace %s allows %ss of namespace %s to refer to Secret %s", at, ref.Namespace, owner.Kind, owner.Namespace, ref.Name)
			continue
		}
		if !asked.taken {
			refs.add(invalid, "%s: %s", at, x.notRead(asked.to, owner.Namespace))
			continue
		}
		s := x.state.Secrets[asked.to.Key]
		switch {
		case s == nil:
			unread = true
			refs.add(invalid, "%s: Secret %s/%s was not read yet", at, ref.Namespace, ref.Name)
		case s.Absent:
			refs.add(invalid, "%s: there is no Secret %s/%s", at, ref.Namespace, ref.Name)
		case s.Problem != "":
			refs.add(invalid, "%s: Secret %s/%s: %s", at, ref.Namespace, ref.Name, s.Problem)
		default:
			out = append(out, mesh.Certificate{Chain: s.Chain, Key: s.PrivateKey})
		}
	}
	settled := x.settle(by, resolved{from: from, certificates: out, refs: refs}, unread)
	return settled.certificates, settled.refs, unread
}
