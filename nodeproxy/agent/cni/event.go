// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
)

// PluginName is the plugin's type in CNI configuration, and the name of its binary.
const PluginName = "isthmus-cni"

// AddPath is where the agent takes events, on its unix socket.
const AddPath = "/cmdadd"

// CheckPath is where it says whether a pod is captured as it should be, and StatusPath where it says that it is there.
const (
	CheckPath  = "/cmdcheck"
	StatusPath = "/status"
)

// maxEvent bounds what the agent reads of an event, in bytes; a real one has a few hundred.
const maxEvent = 64 << 10

// Event is a pod's network at the moment in which the runtime made it: before the pod's containers start, and before its address is
// in the pod's status. The field names are those of Istio's agent, with the uid added.
type Event struct {
	// Netns is a path on the node.
	Netns        string    `json:"Netns"`
	PodName      string    `json:"PodName"`
	PodNamespace string    `json:"PodNamespace"`
	PodUID       string    `json:"PodUID,omitempty"`
	IPs          []Address `json:"IPs"`
}

// Address is one address of the pod, as a prefix.
type Address struct {
	Interface *int         `json:"Interface,omitempty"`
	Address   netip.Prefix `json:"Address"`
	Gateway   string       `json:"Gateway,omitempty"`
}

// ReadEvent reads and checks an event.
func ReadEvent(r io.Reader) (Event, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxEvent+1))
	if err != nil {
		return Event{}, err
	}
	if len(b) > maxEvent {
		return Event{}, fmt.Errorf("event of more than %d bytes", maxEvent)
	}
	var e Event
	if err := json.Unmarshal(b, &e); err != nil {
		return Event{}, fmt.Errorf("event: %w", err)
	}
	switch {
	case e.PodName == "" || e.PodNamespace == "":
		return Event{}, errors.New("event without the pod's name or namespace")
	case !filepath.IsAbs(e.Netns) || filepath.Clean(e.Netns) != e.Netns:
		return Event{}, fmt.Errorf("event with network namespace %q, want a clean absolute path", e.Netns)
	}
	return e, nil
}

// Addresses gives the pod's addresses.
func (e Event) Addresses() []netip.Addr {
	var all []netip.Addr
	for _, a := range e.IPs {
		if a.Address.IsValid() {
			all = append(all, a.Address.Addr().Unmap())
		}
	}
	return all
}
