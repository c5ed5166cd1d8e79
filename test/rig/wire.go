// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink"

	"github.com/isthmus-mesh/isthmus/lab/line"
)

// wirePackets is how many packets can be under way in one direction of a wire: 65536 of 1500 bytes are 0.4 s of 2 Gbit/s.
const wirePackets = 65536

// Wire is the way between a node and the fabric, as long, narrow and lossy as it is told to be.
//
//	node ── port ── bridge "long-N" ── TAP device ── this process ── TAP device ── the fabric's bridge
type Wire struct{ out, back *line.Line }

// Wire puts one into the node's link to the fabric, for as long as the rig lives. It is short, wide and loses nothing, until Set.
func (n *Node) Wire() (*Wire, error) {
	r := n.Cluster.rig
	long, near, far := "long-"+r.port(), "near-"+r.port(), "far-"+r.port()
	var devices [2]*os.File
	for i, name := range []string{near, far} {
		err := r.fabric.Inside(func() (err error) {
			devices[i], err = line.Open(name, line.TAP)
			return err
		})
		if err != nil {
			return nil, err
		}
		r.running.Go(func() {
			<-r.alive.Done()
			devices[i].Close()
		})
	}
	if err := n.moveTo(long, near, far); err != nil {
		return nil, err
	}
	w := &Wire{out: line.New(line.Shape{}, wirePackets), back: line.New(line.Shape{}, wirePackets)}
	// What fails shows as a link that is dead.
	r.running.Go(func() { _ = w.out.Carry(devices[0], devices[1], nil) })
	r.running.Go(func() { _ = w.back.Carry(devices[1], devices[0], nil) })
	return w, nil
}

// Set says what the wire does to packets, in each of its directions.
func (w *Wire) Set(shape line.Shape) {
	w.out.Set(shape)
	w.back.Set(shape)
}

// moveTo unplugs the node from the fabric's bridge, and plugs it into a new one, together with the device near; far takes its place.
func (n *Node) moveTo(long, near, far string) error {
	port := 0
	err := n.Space.links(func(h *netlink.Handle) error {
		l, err := h.LinkByName("fabric")
		if err == nil {
			port = l.Attrs().ParentIndex // the index of the other end, in its namespace
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("device fabric: %w", err)
	}
	return n.Cluster.rig.fabric.links(func(h *netlink.Handle) error {
		if err := h.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: long}}); err != nil {
			return fmt.Errorf("bridge %s: %w", long, err)
		}
		old, err := h.LinkByName(bridge)
		if err != nil {
			return err
		}
		new, err := h.LinkByName(long)
		if err != nil {
			return err
		}
		end, err := h.LinkByIndex(port)
		if err != nil {
			return err
		}
		nearLink, err := h.LinkByName(near)
		if err != nil {
			return err
		}
		farLink, err := h.LinkByName(far)
		if err != nil {
			return err
		}
		return errors.Join(
			h.LinkSetMaster(end, new), h.LinkSetMaster(nearLink, new), h.LinkSetMaster(farLink, old),
			up(h, long), up(h, near), up(h, far),
		)
	})
}
