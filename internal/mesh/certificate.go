// SPDX-License-Identifier: Apache-2.0

package mesh

import "encoding/json"

// Certificate is what a listener proves by. Printed, logged or dumped, it does not tell its key.
type Certificate struct {
	// Chain is PEM, the leaf first; Key is its private key, PEM (PKCS #8, PKCS #1 or SEC 1).
	Chain, Key string
}

// keyNotTold stands for a key.
const keyNotTold = "(not told)"

// String gives the chain alone.
func (c Certificate) String() string { return "{" + c.Chain + " " + keyNotTold + "}" }

// GoString is String for %#v.
func (c Certificate) GoString() string { return c.String() }

// MarshalJSON gives the chain alone.
func (c Certificate) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]string{"Chain": c.Chain, "Key": keyNotTold})
}
