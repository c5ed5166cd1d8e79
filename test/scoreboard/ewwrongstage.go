// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"

	"github.com/isthmus-mesh/isthmus/internal/world"
	"github.com/isthmus-mesh/isthmus/test/rig"
)

const (
	// wrongSlots is how many addresses of pods each cluster has, which are the same ones in all clusters; what is there belongs to one service now and to another one then.
	wrongSlots = 6
	// wrongVault is the last service, which only one of two identities may reach.
	wrongVault = wrongServices - 1
	// wrongServices is how many there are. The pods of the first two have the same identity, so that only the service tells them apart.
	wrongServices = 5
	wrongFriend   = "friend"
	wrongThief    = "thief"
)

var wrongPorts = portNumbers(portEcho)

// wrongStage is two clusters with the same addresses, whose pods and services come and go, and clients in one of them that do as well.
type wrongStage struct {
	rig      *rig.Rig
	clusters [2]*wrongCluster
	vips     [wrongServices]netip.Addr // in the clients' cluster
	clients  [2]*wrongClient
	truth    truth
	born     int
}

// wrongCluster is one cluster.
type wrongCluster struct {
	*rig.Cluster
	node  *rig.Node
	slots [wrongSlots]*wrongPod
}

// wrongPod is a pod that answers questions.
type wrongPod struct {
	*rig.Pod
	service  int
	listener net.Listener
}

// wrongClient is a pod whose identity is one of two.
type wrongClient struct {
	*rig.Pod
	account string
}

func wrongService(i int) string { return "service-" + strconv.Itoa(i) }

// wrongAccount is the account of the pods of a service.
func wrongAccount(service int) string {
	if service < 2 {
		return "shared"
	}
	return wrongService(service)
}

func newWrongStage(ctx context.Context) (s *wrongStage, err error) {
	r, err := rig.New()
	if err != nil {
		return nil, err
	}
	s = &wrongStage{rig: r}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	var ready []interface{ Ready(context.Context) error }
	for i := range s.clusters {
		c := &wrongCluster{Cluster: r.Cluster("cluster-" + strconv.Itoa(i))}
		s.clusters[i] = c
		if c.node, err = c.Node(); err != nil {
			return nil, err
		}
		if err := c.node.Masquerade(ctx); err != nil {
			return nil, err
		}
		proxy, err := c.node.StartProxy(ctx, rig.ProxyOptions{})
		if err != nil {
			return nil, err
		}
		for service := range wrongServices {
			at := c.Service(wrongService(service), map[string]string{"istio.io/global": "true"}, wrongPorts)
			if i == 0 {
				s.vips[service] = at
				s.truth.own(at, service)
			}
		}
		for slot := range wrongSlots {
			if err := s.occupy(ctx, c, slot, slot%wrongServices, netip.Addr{}); err != nil {
				return nil, err
			}
		}
		c.endpoints()
		r.Put(&world.AuthorizationPolicy{
			Key: world.Key{Cluster: world.Cluster(c.Name), Namespace: rig.Namespace, Name: "vault"}, Action: "DENY",
			Rules: []world.PolicyRule{{
				From: []world.PolicySource{{NotPrincipals: []string{rig.TrustDomain + "/ns/" + rig.Namespace + "/sa/" + wrongFriend}}},
				To:   []world.PolicyOperation{{Ports: []string{portEcho}}},
			}},
			Selector: map[string]string{wrongLabel: wrongService(wrongVault)},
		})
		gateway, err := c.node.StartGateway(ctx, "eastwest")
		if err != nil {
			return nil, err
		}
		ready = append(ready, proxy, gateway)
	}
	for i, account := range []string{wrongFriend, wrongThief} {
		pod, err := s.clusters[0].node.EnrolledPod(ctx, account)
		if err != nil {
			return nil, err
		}
		s.clients[i] = &wrongClient{pod, account}
	}
	r.Publish()
	for _, one := range ready {
		if err := one.Ready(ctx); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// wrongLabel is the label of pods that says of which service they are.
const wrongLabel = "app"

// closeWith takes the stage down, and tells if that fails.
func (s *wrongStage) closeWith(err *error) { *err = errors.Join(*err, s.rig.Close()) }

// occupy makes a pod of a service, at an address if that is valid. The world knows of it with endpoints and the next Publish.
func (s *wrongStage) occupy(ctx context.Context, c *wrongCluster, slot, service int, at netip.Addr) error {
	s.born++
	name := fmt.Sprintf("%s-%d", wrongService(service), s.born)
	if !at.IsValid() {
		var err error
		if at, err = c.node.FreeAddress(); err != nil {
			return err
		}
	}
	pod, err := c.node.PodAt(name, wrongAccount(service), at)
	if err != nil {
		return err
	}
	pod.Label(map[string]string{wrongLabel: wrongService(service)})
	l, err := answerQuestions(ctx, pod, s.truth.born(service))
	if err != nil {
		return err
	}
	c.slots[slot] = &wrongPod{pod, service, l}
	return pod.Enrol(ctx)
}

// endpoints says which pods each service has.
func (c *wrongCluster) endpoints() {
	for service := range wrongServices {
		var pods []*rig.Pod
		for _, p := range c.slots {
			if p != nil && p.service == service {
				pods = append(pods, p.Pod)
			}
		}
		c.Endpoints(wrongService(service), wrongPorts, pods...)
	}
}

// replace has a pod end and one of another service begin at its address. The control plane learns that the one is gone before, or only when the other is there.
func (s *wrongStage) replace(ctx context.Context, c *wrongCluster, slot, service int, abrupt bool) error {
	old := c.slots[slot]
	old.Forget()
	c.slots[slot] = nil
	if !abrupt {
		c.endpoints()
		s.rig.Publish()
	}
	if err := errors.Join(old.listener.Close(), old.Remove(ctx)); err != nil {
		return err
	}
	if err := s.occupy(ctx, c, slot, service, old.Address); err != nil {
		return err
	}
	c.endpoints()
	s.rig.Publish()
	return nil
}

// swap gives each of two services the other's address in the clients' cluster.
func (s *wrongStage) swap(a, b int) {
	s.vips[a], s.vips[b] = s.vips[b], s.vips[a]
	for _, service := range []int{a, b} {
		s.clusters[0].ServiceAt(wrongService(service), s.vips[service], map[string]string{"istio.io/global": "true"}, wrongPorts)
		s.truth.own(s.vips[service], service)
	}
	s.rig.Publish()
	s.truth.settle()
}

// exchange has both clients end, and begin anew each at the other's address.
func (s *wrongStage) exchange(ctx context.Context) error {
	for _, c := range s.clients {
		c.Forget()
		if err := c.Remove(ctx); err != nil {
			return err
		}
	}
	s.clients[0].Pod, s.clients[1].Pod = s.clients[1].Pod, s.clients[0].Pod
	for _, c := range s.clients {
		s.born++
		pod, err := s.clusters[0].node.PodAt(fmt.Sprintf("%s-%d", c.account, s.born), c.account, c.Address)
		if err != nil {
			return err
		}
		c.Pod = pod
		if err := pod.Enrol(ctx); err != nil {
			return err
		}
	}
	s.rig.Publish()
	return nil
}

// churn replaces a pod that is picked at random, and sometimes has services exchange their addresses.
func (s *wrongStage) churn(ctx context.Context, step int) error {
	if step%wrongSwapEvery == wrongSwapEvery-1 {
		a := rand.IntN(wrongServices)
		s.swap(a, (a+1+rand.IntN(wrongServices-1))%wrongServices)
		return nil
	}
	c := s.clusters[rand.IntN(len(s.clusters))]
	slot := rand.IntN(wrongSlots)
	service := (c.slots[slot].service + 1 + rand.IntN(wrongServices-1)) % wrongServices
	return s.replace(ctx, c, slot, service, rand.IntN(2) == 0)
}
