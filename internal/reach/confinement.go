// SPDX-License-Identifier: Apache-2.0

package reach

import (
	"strconv"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// Confinement is what a gateway confines a connection to for which it let a peer in to a port of a service (docs/hbone.md §13.9).
func Confinement(service mesh.ServiceKey, port uint16) string {
	return service.String() + ":" + strconv.Itoa(int(port))
}
