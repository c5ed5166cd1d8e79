// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// floodingConn is a connection to who says ever more.
type floodingConn struct{ net.Conn }

func (floodingConn) Read(b []byte) (int, error) { return len(b), nil }

// TestWhatIsInNoAnswerIsBounded: what a library reads and throws away comes no faster than we let it, and what is read of answers as fast as these may come.
func TestWhatIsInNoAnswerIsBounded(t *testing.T) {
	const lasts, gulp = time.Minute, 32 << 10
	for _, tc := range []struct {
		name        string
		answers     int // bytes of a gulp that are an answer's
		least, most int // bytes in all
	}{
		{"pings", 0, besideBurst, besideBurst + 60*besideRate + 2*gulp},
		{"an answer, and what is around it", gulp - 100, 10 * besideBurst, 1 << 62},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBudget()
				c := newPacedConn(floodingConn{}, newPace(&pacer{}, b))
				i := newIntake(pours{size: 1 << 40}, DefaultRoom, b)
				answer, err := i.RoundTrip(question(t, "https://far/version"))
				if err != nil {
					t.Fatal(err)
				}
				got, buffer := 0, make([]byte, gulp)
				for began := time.Now(); time.Since(began) < lasts && got < 10*besideBurst; {
					n, err := c.Read(buffer)
					if err != nil {
						t.Fatal(err)
					}
					got += n
					if tc.answers == 0 {
						continue
					}
					if _, err := io.ReadFull(answer.Body.(*wholeBody).ReadCloser, buffer[:tc.answers]); err != nil {
						t.Fatal(err)
					}
				}
				if got < tc.least || got > tc.most {
					t.Errorf("%d bytes were read in %s, want %d to %d", got, lasts, tc.least, tc.most)
				}
			})
		})
	}
}

// TestPingsAreForgiven: who was left alone is read as before after a while.
func TestPingsAreForgiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b beside
		if wait := b.add(besideBurst, time.Now()); wait != 0 {
			t.Errorf("a burst waits for %s", wait)
		}
		if wait := b.add(besideRate, time.Now()); wait != time.Second {
			t.Errorf("a second's worth more waits for %s", wait)
		}
		if b.none(time.Now()) {
			t.Error("it is forgotten at once")
		}
		time.Sleep((besideBurst/besideRate + 2) * time.Second)
		if !b.none(time.Now()) {
			t.Error("it is not forgotten")
		}
	})
}
