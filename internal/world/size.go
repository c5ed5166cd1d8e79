// SPDX-License-Identifier: Apache-2.0

package world

import (
	"net/netip"
	"reflect"
)

const (
	// objectSize is about what any object takes: itself, its names, its places in a cache and in a Store, and what is worked out from it. A cluster of 300
	// services and 4,000 endpoints takes 15 to 20 MB (go run ./test/scoreboard discovery-remote-mem), 4 KB for each of these, of which half is taken to be theirs
	// and half the connection's.
	objectSize = 2 << 10
	// endpointSize is that of an Endpoint, and portSize of a port of either kind. Their names and addresses count besides.
	endpointSize, portSize = 64, 24
	// rareSize is taken for kinds of which an honest cluster has few, or what such an object holds if that is more.
	rareSize = 16 << 10
	// addressSize is that of a netip.Addr.
	addressSize = 24
)

// Size is about how many bytes an object takes while it is kept, so that what another cluster has us keep can be bounded. It depends on the object alone.
func Size(o Object) int64 {
	n := objectSize
	switch o := o.(type) {
	case *Pod:
		n += textSize(o.Labels) + addressesSize(o.Addresses)
	case *Service:
		n += textSize(o.Labels) + addressesSize(o.Addresses)
		for _, ports := range [][]ServicePort{o.Ports, o.UDPPorts} {
			for i := range ports {
				n += portSize + len(ports[i].Name)
			}
		}
		for _, s := range o.Ingress {
			n += len(s)
		}
	case *EndpointSlice:
		for _, ports := range [][]EndpointPort{o.Ports, o.UDPPorts} {
			for i := range ports {
				n += portSize + len(ports[i].Name)
			}
		}
		for i := range o.Endpoints {
			e := &o.Endpoints[i]
			n += endpointSize + len(e.Pod) + len(e.Node) + addressesSize(e.Addresses)
		}
	case *Namespace:
		n += textSize(o.Labels)
	case *Gateway, *ServiceScope:
		n += max(rareSize, held(reflect.ValueOf(o).Elem()))
	}
	return int64(n)
}

// held is about what a value's fields lead to: texts, and the elements of lists and maps. Kinds with few objects and many fields are weighed by it, so that no field is forgotten.
func held(v reflect.Value) int {
	n := 0
	switch v.Kind() {
	case reflect.String:
		n = v.Len()
	case reflect.Pointer:
		if !v.IsNil() {
			n = int(v.Type().Elem().Size()) + held(v.Elem())
		}
	case reflect.Struct:
		for _, field := range v.Fields() {
			n += held(field)
		}
	case reflect.Slice:
		n = v.Len() * int(v.Type().Elem().Size())
		for i := range v.Len() {
			n += held(v.Index(i))
		}
	case reflect.Map:
		n = v.Len() * int(v.Type().Key().Size()+v.Type().Elem().Size())
		for key, value := range v.Seq2() {
			n += held(key) + held(value)
		}
	}
	return n
}

func textSize(labels map[string]string) int {
	n := 0
	for k, v := range labels {
		n += len(k) + len(v) + 40 // two string headers and their share of the map
	}
	return n
}

func addressesSize(a []netip.Addr) int { return addressSize * len(a) }
