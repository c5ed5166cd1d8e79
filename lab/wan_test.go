// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"net/netip"
	"testing"
)

func packetOf(from, to string, id byte) []byte {
	packet := make([]byte, 20)
	packet[0], packet[4] = 0x45, id
	source, destination := netip.MustParseAddr(from).As4(), netip.MustParseAddr(to).As4()
	copy(packet[12:], source[:])
	copy(packet[16:], destination[:])
	return packet
}

func TestCarried(t *testing.T) {
	six := packetOf("10.89.1.1", "10.89.2.1", 0)
	six[0] = 0x60
	for name, test := range map[string]struct {
		packet []byte
		want   bool
	}{
		"machines":    {packetOf("10.89.1.11", "10.89.102.1", 0), true},
		"from a pod":  {packetOf("10.244.1.2", "10.89.2.11", 0), false},
		"to a pod":    {packetOf("10.89.1.11", "10.244.1.2", 0), false},
		"IPv6":        {six, false},
		"torn header": {six[:19], false},
		"nothing":     {nil, false},
	} {
		if got := carried(test.packet); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func FuzzCarried(f *testing.F) {
	f.Add(packetOf("10.89.1.11", "10.89.2.11", 1))
	f.Fuzz(func(t *testing.T, packet []byte) { carried(packet) })
}
