// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"slices"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// takesPart says whether a cluster's definition of a service is part of what is told of it.
type takesPart func(world.Cluster, serviceName) bool

// served are the services that endpoints answer for, slice by slice, with their own port for each of the services': all pods of a slice share one map. It is good for as long as
// Services, slices and what takes part do not change.
type served struct {
	x         *index
	takesPart takesPart
	by        map[world.Key]map[mesh.ServiceKey][]mesh.Port // slice → what was worked out, which has one service or none
}

// of gives those of a slice; nil: none that is told.
func (s *served) of(slice world.Key) map[mesh.ServiceKey][]mesh.Port {
	out, known := s.by[slice]
	if known {
		return out
	}
	if key, ports, ok := s.x.slicePorts(slice, s.takesPart); ok {
		out = map[mesh.ServiceKey][]mesh.Port{key: addPorts(nil, ports)}
	}
	if s.by == nil {
		s.by = map[world.Key]map[mesh.ServiceKey][]mesh.Port{}
	}
	s.by[slice] = out
	return out
}

// ofPod gives those of a pod.
func (s *served) ofPod(pod world.Key) map[mesh.ServiceKey][]mesh.Port {
	slices, ok := s.x.slicesNaming[pod]
	switch {
	case !ok:
		return nil
	case len(slices.more) == 0:
		return s.of(slices.one)
	}
	return s.merged(pod)
}

// merged puts together what several slices have.
func (s *served) merged(pod world.Key) map[mesh.ServiceKey][]mesh.Port {
	var out map[mesh.ServiceKey][]mesh.Port
	for _, k := range slices.SortedFunc(s.x.slicesNaming.of(pod), world.Key.Compare) {
		for key, ports := range s.of(k) {
			if out == nil {
				out = map[mesh.ServiceKey][]mesh.Port{}
			}
			out[key] = addPorts(out[key], ports)
		}
	}
	return out
}

// slicePorts are the ports at which the endpoints of a slice answer for its service.
func (x *index) slicePorts(k world.Key, takesPart takesPart) (mesh.ServiceKey, []mesh.Port, bool) {
	slice := x.state.EndpointSlices[k]
	n := serviceName{k.Namespace, slice.Service}
	s := x.state.Services[n.in(k.Cluster)]
	if s == nil || !takesPart(k.Cluster, n) {
		return mesh.ServiceKey{}, nil, false
	}
	ports := []mesh.Port{}
	for _, p := range s.Ports {
		i := slices.IndexFunc(slice.Ports, func(e world.EndpointPort) bool { return e.Name == p.Name })
		if i >= 0 { // else the pod lacks the named port
			ports = append(ports, mesh.Port{Service: p.Port, Target: slice.Ports[i].Port, App: p.App})
		}
	}
	return x.serviceKey(n), ports, true
}

// addPorts is the union by service port, sorted; what was there first stays.
func addPorts(ports, more []mesh.Port) []mesh.Port {
	out := slices.Clone(ports)
	for _, p := range more {
		if !slices.ContainsFunc(out, func(q mesh.Port) bool { return q.Service == p.Service }) {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b mesh.Port) int { return cmp.Compare(a.Service, b.Service) })
	return out
}
