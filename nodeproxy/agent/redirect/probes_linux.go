// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Probes is the node's side of probing: what the kubelet sends to the enrolled pods of this node gets the probe source address,
// which the pods' rules let pass by the mesh. Only a socket of the node with the kubelet's uid can produce it.
//
// It lives in the network namespace that it is given, and stays there when the process ends: the probes of running pods must go on
// working while an agent is replaced. Its methods may be called from any goroutine.
type Probes struct {
	node *os.File
	uid  uint32

	mu   sync.Mutex
	pods map[netip.Addr]struct{} // what the sets should hold
}

// NewProbes makes the node's side in the network namespace node for a kubelet that runs as uid. The file stays the caller's and must
// stay open.
func NewProbes(node *os.File, uid uint32) *Probes {
	return &Probes{node: node, uid: uid, pods: map[netip.Addr]struct{}{}}
}

// Shares says whether a network namespace is the node's own.
func (p *Probes) Shares(netns *os.File) (bool, error) { return Same(p.node, netns) }

func probeSets(table *nftables.Table) (v4, v6 *nftables.Set) {
	return &nftables.Set{Table: table, Name: "probes-v4", KeyType: nftables.TypeIPAddr},
		&nftables.Set{Table: table, Name: "probes-v6", KeyType: nftables.TypeIP6Addr}
}

// table is what the node should have, beside the sets.
func (p *Probes) table(v4, v6 *nftables.Set) Table {
	return Table{tableProbes, []Chain{
		{"postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource, []Rule{
			{"h1", []Match{tcp, ownSocket(p.uid), destinationIn(v4, false)}, translateSource(ProbeSourceV4)},
			{"h1", []Match{tcp, ownSocket(p.uid), destinationIn(v6, true)}, translateSource(ProbeSourceV6)},
		}},
		// The node sends from the probe source, and lets nobody else send from there, to it or through it or, where bridges ask these rules, over it.
		{"prerouting", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw, []Rule{
			{"h2", []Match{source(ProbeSourceV4)}, verdictDrop},
			{"h2", []Match{source(ProbeSourceV6)}, verdictDrop},
		}},
	}}
}

// Reset makes the rules, and the set of pods exactly these addresses, in one transaction.
func (p *Probes) Reset(pods []netip.Addr) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.pods)
	p.remember(pods)
	return errors.Join(p.write(), applyBranches(p.node, p.pods))
}

func (p *Probes) remember(pods []netip.Addr) {
	for _, a := range pods {
		if a.IsValid() {
			p.pods[a.Unmap()] = struct{}{}
		}
	}
}

// write is called with mu held.
func (p *Probes) write() error {
	c, err := nftables.New(nftables.WithNetNSFd(int(p.node.Fd())))
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: tableProbes})
	c.DelTable(table) // whatever it was
	table = c.AddTable(table)
	v4, v6 := probeSets(table)
	in4, in6 := elements(slices.Collect(maps.Keys(p.pods)))
	if err := c.AddSet(v4, in4); err != nil {
		return fmt.Errorf("set of pods: %w", err)
	}
	if err := c.AddSet(v6, in6); err != nil {
		return fmt.Errorf("set of pods: %w", err)
	}
	replaceTable(c, p.table(v4, v6))
	if err := c.Flush(); err != nil {
		return fmt.Errorf("apply the node's probe rules: %w", err)
	}
	return nil
}

// Repair writes everything anew if anything is not as it should be, and says what that was: "" when nothing.
func (p *Probes) Repair() (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	what, err := p.damage()
	if what != "" && err == nil {
		err = p.write()
	}
	return what, errors.Join(err, applyBranches(p.node, p.pods))
}

func (p *Probes) damage() (string, error) {
	v4, v6 := probeSets(&nftables.Table{Family: nftables.TableFamilyINet, Name: tableProbes})
	what, err := tablesDamage(p.node, []Table{p.table(v4, v6)})
	if what != "" || err != nil {
		return what, err
	}
	c, err := nftables.New(nftables.WithNetNSFd(int(p.node.Fd())))
	if err != nil {
		return "", fmt.Errorf("nftables: %w", err)
	}
	in4, in6 := elements(slices.Collect(maps.Keys(p.pods)))
	for set, want := range map[*nftables.Set][]nftables.SetElement{v4: in4, v6: in6} {
		got, err := c.GetSetElements(set)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return "", fmt.Errorf("list set %s: %w", set.Name, err)
		}
		same := err == nil && len(got) == len(want)
		for _, e := range got {
			a, _ := netip.AddrFromSlice(e.Key)
			_, ok := p.pods[a]
			same = same && ok
		}
		if !same {
			return fmt.Sprintf("set %s is not of the captured pods", set.Name), nil
		}
	}
	return "", nil
}

// Add puts a pod's addresses into the set. Addresses that are there already are fine.
func (p *Probes) Add(pod []netip.Addr) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.remember(pod)
	err := p.change(pod, func(c *nftables.Conn, s *nftables.Set, e []nftables.SetElement) error { return c.SetAddElements(s, e) })
	return errors.Join(err, applyBranches(p.node, p.pods))
}

// Delete takes a pod's addresses out of the set. Addresses that are not there are fine.
func (p *Probes) Delete(pod []netip.Addr) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range pod {
		delete(p.pods, a.Unmap())
	}
	err := p.change(pod, func(c *nftables.Conn, s *nftables.Set, e []nftables.SetElement) error {
		// Added first, so that there is something to delete.
		if err := c.SetAddElements(s, e); err != nil {
			return err
		}
		return c.SetDeleteElements(s, e)
	})
	return errors.Join(err, applyBranches(p.node, p.pods))
}

// change is called with mu held. When there is no set to change, somebody has damaged it: then all is written.
func (p *Probes) change(pod []netip.Addr, order func(*nftables.Conn, *nftables.Set, []nftables.SetElement) error) error {
	if len(pod) == 0 {
		return nil
	}
	c, err := nftables.New(nftables.WithNetNSFd(int(p.node.Fd())))
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	v4, v6 := probeSets(&nftables.Table{Family: nftables.TableFamilyINet, Name: tableProbes})
	in4, in6 := elements(pod)
	if len(in4) > 0 {
		if err := order(c, v4, in4); err != nil {
			return fmt.Errorf("set of pods: %w", err)
		}
	}
	if len(in6) > 0 {
		if err := order(c, v6, in6); err != nil {
			return fmt.Errorf("set of pods: %w", err)
		}
	}
	if err := c.Flush(); err != nil {
		if writeErr := p.write(); writeErr != nil {
			return fmt.Errorf("change the node's set of probed pods: %w", errors.Join(err, writeErr))
		}
	}
	return nil
}

// Close takes the node's rules away: the mesh is being uninstalled.
func (p *Probes) Close() error {
	c, err := nftables.New(nftables.WithNetNSFd(int(p.node.Fd())))
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	replaceTable(c, Table{Name: tableProbes})
	if err := c.Flush(); err != nil {
		return fmt.Errorf("remove the node's probe rules: %w", err)
	}
	return applyBranches(p.node, nil)
}

func elements(pods []netip.Addr) (v4, v6 []nftables.SetElement) {
	for _, a := range pods {
		a = a.Unmap()
		if a.Is4() {
			v4 = append(v4, nftables.SetElement{Key: a.AsSlice()})
		} else if a.IsValid() {
			v6 = append(v6, nftables.SetElement{Key: a.AsSlice()})
		}
	}
	return v4, v6
}
