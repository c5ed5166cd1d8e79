// SPDX-License-Identifier: Apache-2.0

package ambient

import (
	"errors"
	"fmt"
	"net/netip"
)

// Workload is what a Ztunnel takes from istio.workload.Workload.
type Workload struct {
	UID, Name, Namespace, Network, TrustDomain, ServiceAccount, Node, Cluster string

	Addresses []netip.Addr
	HBONE     bool
	Healthy   bool
	Capacity  uint32
	// Services are the ports by "namespace/hostname".
	Services map[string][]Port
	Policies []string
	// Gateway is the network gateway, or nil.
	Gateway *Gateway
}

// Port is one port of a service.
type Port struct{ Service, Target uint32 }

// Gateway is where a workload's network is entered.
type Gateway struct {
	Hostname string
	Network  string
	Address  netip.Addr
	Port     uint32
}

// Service is what a Ztunnel takes from istio.workload.Service.
type Service struct {
	Name, Namespace, Hostname string

	VIPs  []string // "network/address"
	Ports []Port
	SANs  []string
}

// Policy is what a Ztunnel takes from istio.security.Authorization.
type Policy struct {
	Name, Namespace string
	Deny            bool
	Rules           int
}

// readAddress reads an istio.workload.Address: one of the results is not nil.
func readAddress(body []byte) (*Workload, *Service, error) {
	f, err := parse(body)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case f.has(1):
		w, err := readWorkload(f.last(1).bytes)
		return w, nil, err
	case f.has(2):
		s, err := readService(f.last(2).bytes)
		return nil, s, err
	}
	return nil, nil, errors.New("address without a type")
}

func readWorkload(body []byte) (*Workload, error) {
	f, err := parse(body)
	if err != nil {
		return nil, err
	}
	w := &Workload{
		UID: f.text(20), Name: f.text(1), Namespace: f.text(2), Network: f.text(4), Node: f.text(9),
		TrustDomain: f.or(6, "cluster.local"), ServiceAccount: f.or(7, "default"), Cluster: f.or(18, "Kubernetes"),
		Healthy: f.last(17).number == 0, Capacity: 1, Policies: f.texts(16), Services: map[string][]Port{},
	}
	switch tunnel := f.last(5).number; tunnel {
	case 0:
	case 1:
		w.HBONE = true
	default:
		return nil, fmt.Errorf("tunnel protocol %d", tunnel)
	}
	for _, a := range f[3] {
		addr, ok := netip.AddrFromSlice(a.bytes)
		if !ok {
			return nil, fmt.Errorf("address of %d bytes", len(a.bytes))
		}
		w.Addresses = append(w.Addresses, addr)
	}
	if f.has(27) { // UInt32Value: value = 1
		value, err := parse(f.last(27).bytes)
		if err != nil {
			return nil, err
		}
		w.Capacity = uint32(value.last(1).number)
	}
	for _, entry := range f[22] { // map: key = 1, PortList = 2
		e, err := parse(entry.bytes)
		if err != nil {
			return nil, err
		}
		list, err := parse(e.last(2).bytes)
		if err != nil {
			return nil, err
		}
		if w.Services[e.text(1)], err = readPorts(list[1]); err != nil {
			return nil, err
		}
	}
	if f.has(19) {
		w.Gateway, err = readGateway(f.last(19).bytes)
	}
	return w, err
}

func readGateway(body []byte) (*Gateway, error) {
	f, err := parse(body)
	if err != nil {
		return nil, err
	}
	g := &Gateway{Port: uint32(f.last(3).number)}
	switch {
	case f.has(1): // NamespacedHostname: namespace = 1, hostname = 2
		name, err := parse(f.last(1).bytes)
		if err != nil {
			return nil, err
		}
		g.Hostname = name.text(2)
	case f.has(2):
		if g.Network, g.Address, err = readNetworkAddress(f.last(2).bytes); err != nil {
			return nil, err
		}
	default:
		return nil, errors.New("gateway without a destination")
	}
	return g, nil
}

// readNetworkAddress reads network = 1, address = 2.
func readNetworkAddress(body []byte) (string, netip.Addr, error) {
	f, err := parse(body)
	if err != nil {
		return "", netip.Addr{}, err
	}
	addr, ok := netip.AddrFromSlice(f.last(2).bytes)
	if !ok {
		return "", addr, fmt.Errorf("network address of %d bytes", len(f.last(2).bytes))
	}
	return f.text(1), addr, nil
}

func readPorts(list []field) ([]Port, error) {
	var out []Port
	for _, p := range list {
		f, err := parse(p.bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, Port{Service: uint32(f.last(1).number), Target: uint32(f.last(2).number)})
	}
	return out, nil
}

func readService(body []byte) (*Service, error) {
	f, err := parse(body)
	if err != nil {
		return nil, err
	}
	s := &Service{Name: f.text(1), Namespace: f.text(2), Hostname: f.text(3), SANs: f.texts(6)}
	for _, a := range f[4] {
		network, addr, err := readNetworkAddress(a.bytes)
		if err != nil {
			return nil, err
		}
		s.VIPs = append(s.VIPs, network+"/"+addr.String())
	}
	s.Ports, err = readPorts(f[5])
	return s, err
}

func readPolicy(body []byte) (*Policy, error) {
	f, err := parse(body)
	if err != nil {
		return nil, err
	}
	return &Policy{Name: f.text(1), Namespace: f.text(2), Deny: f.last(4).number == 1, Rules: len(f[5])}, nil
}
