// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math/rand/v2"
	"net/netip"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/world"
)

const (
	bigPerService = 10 // endpoints of a service
	bigClusters   = 10
	bigLocal      = world.Cluster("c0")
)

var bigConfig = world.Config{LocalCluster: bigLocal, TrustDomain: "cluster.local", ClusterDomain: "cluster.local", SystemNamespace: "isthmus-system"}

// bigWorld is ten clusters with a network each, and a number of endpoints in all of them together. Half of the services, of ten endpoints
// each, are our own cluster's, whose pods are told one by one; the others' have names of ours, so that they are merged. Every second
// name is global.
type bigWorld struct {
	objects []world.Object
	local   []*world.Pod
	remote  []*world.Pod // behind global services
}

func newBigWorld(endpoints int) *bigWorld {
	w := &bigWorld{}
	services := endpoints / bigPerService
	others := services / 2 / (bigClusters - 1)
	for c := range bigClusters {
		cluster := world.Cluster(fmt.Sprintf("c%d", c))
		w.add(
			&world.Namespace{Key: world.Key{Cluster: cluster, Name: bigConfig.SystemNamespace}, Labels: map[string]string{world.LabelNetwork: string(cluster)}},
			&world.ServiceScope{Key: world.Key{Cluster: cluster, Name: "default"}, Entries: []world.ScopeEntry{{
				Scope: "GLOBAL", Services: &world.Selector{MatchLabels: map[string]string{world.LabelGlobal: "true"}},
			}}},
			&world.Gateway{
				Key: world.Key{Cluster: cluster, Namespace: bigConfig.SystemNamespace, Name: "gw"}, Class: "eastwest",
				Listeners: []world.Listener{{Name: "mesh", Port: 15008, Protocol: "HBONE", HasTLS: true, TLSMode: "Terminate"}},
				Status:    []world.GatewayAddress{{Type: "IPAddress", Value: fmt.Sprintf("203.0.113.%d", c+1)}},
			},
		)
		for n := range 20 {
			w.add(&world.Node{Key: world.Key{Cluster: cluster, Name: fmt.Sprintf("node-%d", n)}, Locality: mesh.Locality{Region: "eu", Zone: fmt.Sprint("eu-", n%3)}})
		}
		w.namespaces(cluster)
		count := others
		if cluster == bigLocal {
			count = services - others*(bigClusters-1)
		}
		for s := range count {
			w.service(cluster, s)
		}
	}
	return w
}

func (w *bigWorld) add(objects ...world.Object) { w.objects = append(w.objects, objects...) }

// namespaces adds those of the services.
func (w *bigWorld) namespaces(cluster world.Cluster) {
	for n := range 50 {
		name := fmt.Sprintf("team-%d", n)
		w.add(&world.Namespace{Key: world.Key{Cluster: cluster, Name: name}, Labels: map[string]string{"kubernetes.io/metadata.name": name}})
	}
}

// service adds a service with its endpoints.
func (w *bigWorld) service(cluster world.Cluster, number int) {
	key := world.Key{Cluster: cluster, Namespace: fmt.Sprintf("team-%d", number%50), Name: fmt.Sprintf("service-%d", number)}
	global := number%2 == 0
	service := &world.Service{
		Key: key, Labels: map[string]string{"app": key.Name},
		Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 96 + byte(number>>16), byte(number >> 8), byte(number)})},
		Ports:     []world.ServicePort{{Name: "http", Port: 80, Target: 8080, App: mesh.AppHTTP11}, {Name: "grpc", Port: 9000, Target: 9000, App: mesh.AppGRPC}},
	}
	if global {
		service.Labels[world.LabelGlobal] = "true"
	}
	slice := &world.EndpointSlice{
		Key: key.In(key.Namespace, key.Name+"-x7k2p"), Service: key.Name,
		Ports: []world.EndpointPort{{Name: "http", Port: 8080}, {Name: "grpc", Port: 9000}},
	}
	for n := range bigPerService {
		i := number*bigPerService + n
		pod := &world.Pod{
			Key: key.In(key.Namespace, fmt.Sprintf("%s-5d8f7c9b6d-%05d", key.Name, n)), Node: fmt.Sprintf("node-%d", i%20), ServiceAccount: key.Name,
			Labels: map[string]string{
				"app": key.Name, "app.kubernetes.io/name": key.Name, "app.kubernetes.io/version": "v1.2.3",
				"pod-template-hash": "5d8f7c9b6d", "team": key.Namespace,
			},
			Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})},
			Ready:     true, Captured: true, WorkloadName: key.Name, WorkloadKind: mesh.KindDeployment,
		}
		slice.Endpoints = append(slice.Endpoints, world.Endpoint{Pod: pod.Name})
		w.add(pod)
		switch {
		case cluster == bigLocal:
			w.local = append(w.local, pod)
		case global:
			w.remote = append(w.remote, pod)
		}
	}
	w.add(service, slice)
}

// store is a store that has been told of everything, as feeds would.
func (w *bigWorld) store() *world.Store {
	s := world.NewStore()
	for _, o := range w.objects {
		s.Put(o)
	}
	return s
}

// flip makes a pod ready that was not, or the other way round.
func flip(among []*world.Pod) world.Delta {
	i := rand.IntN(len(among))
	changed := *among[i]
	changed.Ready = !changed.Ready
	among[i] = &changed
	d := world.NewDelta()
	d.Put(&changed)
	return d
}
