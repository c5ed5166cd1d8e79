// SPDX-License-Identifier: Apache-2.0

//go:build netns

package rig

import (
	"net/netip"
	"slices"

	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

// webService adds a service of HTTP on port 80 of pods, which may be of another namespace than most, and gives its address.
func (c *Cluster) webService(namespace, name string, labels map[string]string, pods ...*Pod) netip.Addr {
	c.services++
	at := netip.AddrFrom4([4]byte{10, 96, 0, c.services})
	slice := &world.EndpointSlice{Key: c.key(namespace, name+"-1"), Service: name, Ports: []world.EndpointPort{{Name: "http", Port: 80}}}
	for _, p := range pods {
		slice.Endpoints = append(slice.Endpoints, world.Endpoint{Pod: p.Name, Addresses: slices.Clone(p.object.Addresses), Node: p.Node.Name, Ready: true})
	}
	c.rig.Put(slice, &world.Service{
		Key: c.key(namespace, name), Labels: labels, Addresses: []netip.Addr{at},
		Ports: []world.ServicePort{{Name: "http", Port: 80, Target: 80, App: mesh.AppHTTP11}},
	})
	return at
}

// atService is a parent of routes: port 80 of a Service.
func atService(namespace, name string) world.RouteParent {
	return world.RouteParent{Kind: "Service", Namespace: namespace, Name: name, Port: 80}
}

// toService is a backend of routes: port 80 of a Service.
func toService(namespace, name string) gatewayv1.HTTPBackendRef {
	return gatewayv1.HTTPBackendRef{BackendRef: gatewayv1.BackendRef{BackendObjectReference: gatewayv1.BackendObjectReference{
		Namespace: ptr.To(gatewayv1.Namespace(namespace)), Name: gatewayv1.ObjectName(name), Port: ptr.To[gatewayv1.PortNumber](80),
	}}}
}

// toImport is a backend of routes: port 80 of a service of the cluster set.
func toImport(namespace, name string) gatewayv1.HTTPBackendRef {
	out := toService(namespace, name)
	out.Group, out.Kind = ptr.To[gatewayv1.Group]("multicluster.x-k8s.io"), ptr.To[gatewayv1.Kind]("ServiceImport")
	return out
}

// atPath has a rule be for the requests to a path.
func atPath(path string, to ...gatewayv1.HTTPBackendRef) gatewayv1.HTTPRouteRule {
	return gatewayv1.HTTPRouteRule{
		Matches: []gatewayv1.HTTPRouteMatch{{Path: &gatewayv1.HTTPPathMatch{Type: ptr.To(gatewayv1.PathMatchPathPrefix), Value: &path}}}, BackendRefs: to,
	}
}
