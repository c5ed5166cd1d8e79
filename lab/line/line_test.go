// SPDX-License-Identifier: Apache-2.0

package line

import (
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// device is one whose packets are put in and taken out by a test.
type device struct {
	in  chan []byte
	out chan arrival
}

type arrival struct {
	id byte
	at time.Time
}

func (d *device) Read(p []byte) (int, error) {
	packet, ok := <-d.in
	if !ok {
		return 0, io.EOF
	}
	return copy(p, packet), nil
}

func (d *device) Write(p []byte) (int, error) {
	d.out <- arrival{id: p[0], at: time.Now()}
	return len(p), nil
}

func TestLine(t *testing.T) {
	const packet = 100 // bytes
	for _, test := range []struct {
		name        string
		shape       Shape
		queue       int
		send        int
		least, most time.Duration // that a packet takes
		overflows   int
	}{
		{"delay", Shape{Delay: 20 * time.Millisecond}, 100, 50, 20 * time.Millisecond, 20 * time.Millisecond, 0},
		{"jitter keeps the order", Shape{Delay: 20 * time.Millisecond, Jitter: 10 * time.Millisecond}, 100, 50, 20 * time.Millisecond, 30 * time.Millisecond, 0},
		{"no delay", Shape{}, 100, 50, 0, 0, 0},
		{"a short queue loses", Shape{Delay: time.Second}, 3, 50, time.Second, time.Second, 47}, // or one less, which is in release's hands
		{"half of them lost", Shape{Loss: 0.5}, 1000, 1000, 0, 0, 0},
		{"all of them lost", Shape{Loss: 1}, 10, 100, 0, 0, 0},
		{"a rate", Shape{Rate: 10 * packet, Backlog: time.Hour, Delay: time.Second}, 100, 50, 1100 * time.Millisecond, 6 * time.Second, 0},
		{"a rate and a short backlog", Shape{Rate: 10 * packet, Backlog: time.Second}, 100, 50, 100 * time.Millisecond, 1100 * time.Millisecond, 39},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &device{in: make(chan []byte), out: make(chan arrival, test.send)}
				l := New(test.shape, test.queue)
				done := make(chan error)
				go func() { done <- l.Carry(d, d, func(p []byte) bool { return p[1] == 0 }) }()
				began := time.Now()
				for i := range test.send {
					p := make([]byte, packet)
					p[0] = byte(i)
					d.in <- p
				}
				d.in <- []byte{0, 1} // is not carried
				close(d.in)
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				close(d.out)
				before := -1
				for a := range d.out {
					if test.send < 256 && int(a.id) <= before {
						t.Errorf("packet %d came after %d", a.id, before)
					}
					before = int(a.id)
					if took := a.at.Sub(began); took < test.least || took > test.most {
						t.Errorf("packet %d took %s, want %s to %s", a.id, took, test.least, test.most)
					}
				}
				forwarded, lost, overflowed := l.Counts()
				if sum := forwarded + lost + overflowed; sum != uint64(test.send)+1 {
					t.Errorf("%d packets accounted for, want %d", sum, test.send+1)
				}
				share := float64(lost-1) / float64(test.send)
				if share < test.shape.Loss-0.1 || share > test.shape.Loss+0.1 {
					t.Errorf("share lost %v, want %v", share, test.shape.Loss)
				}
				if int(overflowed) < test.overflows-1 || int(overflowed) > test.overflows {
					t.Errorf("%d overflowed, want %d or one less", overflowed, test.overflows)
				}
			})
		})
	}
}

func TestSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &device{in: make(chan []byte), out: make(chan arrival, 2)}
		l := New(Shape{Delay: time.Minute}, 10)
		done := make(chan error)
		go func() { done <- l.Carry(d, d, nil) }()
		began := time.Now()
		d.in <- []byte{1}
		synctest.Wait()
		l.Set(Shape{Delay: time.Hour})
		d.in <- []byte{2}
		close(d.in)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		for _, want := range []time.Duration{time.Minute, time.Hour} {
			if a := <-d.out; a.at.Sub(began) != want {
				t.Errorf("packet %d took %s, want %s", a.id, a.at.Sub(began), want)
			}
		}
	})
}
