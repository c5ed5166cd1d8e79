// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestBoundCAs(t *testing.T) {
	large := strings.Repeat("c", 1<<20)
	var all []mesh.BackendTLS
	for port := range uint16(maxGatewayCAs>>20 + 3) {
		all = append(all, mesh.BackendTLS{Port: port, ServerName: "a.example.com", CAs: large})
	}
	all = append(all, mesh.BackendTLS{Port: 1000, ServerName: "a.example.com", System: true})
	boundCAs(all)
	sum, closed := 0, 0
	for _, b := range all {
		sum += len(b.CAs)
		if b.Problem != "" {
			closed++
			if b.CAs != "" || b.System || b.ServerName != "" {
				t.Errorf("port %d has a problem, and settings", b.Port)
			}
		}
	}
	if sum != maxGatewayCAs || closed != 3 || !all[len(all)-1].System {
		t.Errorf("%d bytes, %d closed, the last one is %+v", sum, closed, all[len(all)-1])
	}
}
