// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"io"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// line is a device whose packets are put in and taken out by a test.
type line struct {
	in  chan []byte
	out chan arrival
}

type arrival struct {
	id byte
	at time.Time
}

func (l *line) Read(p []byte) (int, error) {
	packet, ok := <-l.in
	if !ok {
		return 0, io.EOF
	}
	return copy(p, packet), nil
}

func (l *line) Write(p []byte) (int, error) {
	l.out <- arrival{id: p[4], at: time.Now()}
	return len(p), nil
}

func packetOf(from, to string, id byte) []byte {
	packet := make([]byte, 20)
	packet[0], packet[4] = 0x45, id
	source, destination := netip.MustParseAddr(from).As4(), netip.MustParseAddr(to).As4()
	copy(packet[12:], source[:])
	copy(packet[16:], destination[:])
	return packet
}

func TestEmulator(t *testing.T) {
	for _, test := range []struct {
		name        string
		shape       Shape
		queue       int
		send        int
		least, most time.Duration
	}{
		{"delay", Shape{Delay: 20 * time.Millisecond}, 100, 50, 20 * time.Millisecond, 20 * time.Millisecond},
		{"jitter keeps the order", Shape{Delay: 20 * time.Millisecond, Jitter: 10 * time.Millisecond}, 100, 50, 20 * time.Millisecond, 30 * time.Millisecond},
		{"no delay", Shape{}, 100, 50, 0, 0},
		{"a short queue loses", Shape{Delay: time.Second}, 3, 50, time.Second, time.Second},
		{"half of them lost", Shape{Loss: 0.5}, 1000, 1000, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				device := &line{in: make(chan []byte), out: make(chan arrival, test.send)}
				e := newEmulator(test.shape, test.queue)
				go e.collect(device)
				done := make(chan error)
				go func() { done <- e.release(device) }()
				began := time.Now()
				for i := range test.send {
					device.in <- packetOf("10.89.1.11", "10.89.2.11", byte(i))
				}
				close(device.in)
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				close(device.out)
				before := -1
				for a := range device.out {
					if test.send < 256 && int(a.id) <= before {
						t.Errorf("packet %d came after %d", a.id, before)
					}
					before = int(a.id)
					if took := a.at.Sub(began); took < test.least || took > test.most {
						t.Errorf("packet %d took %s, want %s to %s", a.id, took, test.least, test.most)
					}
				}
				if sum := e.forwarded.Load() + e.lost.Load() + e.overflowed.Load(); sum != uint64(test.send) {
					t.Errorf("%d packets accounted for, want %d", sum, test.send)
				}
				lost := float64(e.lost.Load()) / float64(test.send)
				if lost < test.shape.Loss-0.1 || lost > test.shape.Loss+0.1 {
					t.Errorf("share lost %v, want %v", lost, test.shape.Loss)
				}
				if test.queue >= test.send && e.overflowed.Load() > 0 || test.queue < test.send && e.overflowed.Load() == 0 {
					t.Errorf("%d overflowed a queue of %d", e.overflowed.Load(), test.queue)
				}
			})
		})
	}
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
