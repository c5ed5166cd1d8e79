// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// A ServiceImport stands for a service of the whole cluster set (GEP-1748). There need not be an object: what clusters share has the same namespace and name everywhere.
const (
	groupMultiCluster = "multicluster.x-k8s.io"
	kindServiceImport = "ServiceImport"
)

// importedPort finds a port of a service that only other clusters have.
func (x *index) importedPort(n serviceName, a *answer, port *gatewayv1.PortNumber) (mesh.ServiceKey, uint16, trouble) {
	if port != nil && *port > 0 && *port < 1<<16 {
		if _, ok := a.service.Port(uint16(*port)); ok {
			return x.serviceKey(n), uint16(*port), trouble{}
		}
	}
	var wanted int32
	if port != nil {
		wanted = *port
	}
	return mesh.ServiceKey{}, 0, trouble{string(gatewayv1.RouteReasonBackendNotFound), fmt.Sprintf("service %s/%s of other clusters has no TCP port %d", n.Namespace, n.Name, wanted)}
}

// foldImported notes that routes may lead to what other clusters have of a service now, or no longer.
func (x *index) foldImported(n serviceName, was, now *answer, t *touched) {
	routes := x.routesTo[n.in(x.config.LocalCluster)]
	if len(routes)+len(x.streams.to[n.in(x.config.LocalCluster)]) == 0 || was.exported == now.exported && slices.Equal(portsTold(was), portsTold(now)) {
		return
	}
	t.routes = true
	for route := range routes {
		x.recompile(route)
	}
}

// portsTold are the ports of a service as the mesh knows it.
func portsTold(a *answer) []mesh.Port {
	if a.service == nil {
		return nil
	}
	return a.service.Ports
}
