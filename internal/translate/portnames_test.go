// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"slices"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// TestPortsKeepTheirNames: of two definitions the older names a port, as it says everything else of it.
func TestPortsKeepTheirNames(t *testing.T) {
	older := &world.Service{Ports: []world.ServicePort{{Name: "http", Port: 80, Target: 8080}, {Port: 81, Target: 81}}}
	older.Cluster = "east"
	younger := &world.Service{Ports: []world.ServicePort{{Name: "web", Port: 80, Target: 8080}, {Name: "admin", Port: 82, Target: 82}}}
	younger.Cluster = "west"
	var found clashes
	got := mergePorts([]*world.Service{older, younger}, &found)
	want := []mesh.Port{{Service: 80, Target: 8080, Name: "http"}, {Service: 81}, {Service: 82, Name: "admin"}}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
