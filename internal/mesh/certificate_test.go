// SPDX-License-Identifier: Apache-2.0

package mesh

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// However a gateway's configuration is shown, no key is.
func TestKeysAreNotTold(t *testing.T) {
	g := Gateway{Name: "g", Listeners: []Listener{{Name: "l", Certificates: []Certificate{{Chain: "the chain", Key: "the secret"}}}}}
	dump, err := json.Marshal(&g)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{string(dump), fmt.Sprint(g), fmt.Sprintf("%v %+v %#v", g, g, g)} {
		if strings.Contains(text, "secret") || !strings.Contains(text, "the chain") {
			t.Errorf("shown as %s", text)
		}
	}
}
