// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// doubt tells, once, of keys that not every peer can verify with. They are taken: our own proxies can, and ztunnels of the usual build.
func (a *Authority) doubt() {
	said := ""
	if doubts := a.Signer().Doubts(); doubts != nil {
		said = strings.ReplaceAll(doubts.Error(), "\n", "; ")
	}
	if said == a.doubted {
		return
	}
	if a.doubted = said; said == "" {
		return
	}
	a.log.Info("ztunnels may not be able to verify certificates of the authority", "secret", a.name, "reason", said)
	a.tell(a.name, corev1.EventTypeWarning, "KeyNotForAll", "%s", note("The authority is in use, but ztunnels may refuse all that it issues, by the TLS library that they were built with: %s. "+
		"All of them verify by elliptic curve keys of 256 or 384 bits with SHA-256 or SHA-384, RSA keys of 2048 to 8192 bits, and Ed25519", said))
}
