// SPDX-License-Identifier: Apache-2.0

package world

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestDearChangesArePutOff has a cluster say what is much work for the taker, ten times a second for ten minutes, while another one and our own change, too. What it says is its allowance of work and then
// so much a second, and is taken as it is last; what the others say is taken as ever.
func TestDearChangesArePutOff(t *testing.T) {
	const (
		every = 100 * time.Millisecond
		takes = 400 * time.Millisecond // of what evil says
		work  = 40_000                 // the same, in objects
		lasts = 10 * time.Minute
	)
	synctest.Test(t, func(t *testing.T) {
		s, began := NewStore(), time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		var mu sync.Mutex
		said := map[Cluster]time.Time{} // when the first was said that was not taken
		waited := map[Cluster]time.Duration{}
		dear, putOff := 0, time.Duration(0)
		done := make(chan struct{})
		var last *Service
		go func() {
			defer close(done)
			for {
				d, err := s.TakeGathered(ctx, "east", Beat{Every: every})
				if err != nil {
					return
				}
				for k, o := range d.Services {
					mu.Lock()
					waited[k.Cluster] = max(waited[k.Cluster], time.Since(said[k.Cluster]))
					delete(said, k.Cluster)
					if k.Cluster == "evil" {
						dear++
						last = o
					}
					mu.Unlock()
					if k.Cluster == "evil" {
						time.Sleep(takes)
						s.Spent(work)
					} else {
						s.Spent(2)
					}
				}
			}
		}()
		var put *Service
		for i := 0; time.Since(began) < lasts; i++ {
			for _, c := range []Cluster{"evil", "west", "east"} {
				o := service(c, "s", uint16(i))
				if c == "evil" {
					put = o
					putOff = max(putOff, s.PutOff(c))
				}
				mu.Lock()
				if _, waits := said[c]; !waits {
					said[c] = time.Now()
				}
				mu.Unlock()
				s.Put(o)
				synctest.Wait()
			}
			time.Sleep(every)
		}
		if most := (allowance+int(lasts/time.Second)*allowanceRate)/work + 2; dear > most || dear < most/2 {
			t.Errorf("what is dear was taken %d times, want %d at most", dear, most)
		}
		if putOff == 0 || s.PutOff("west") != 0 {
			t.Errorf("evil was put off for %s at most, and west is for %s", putOff, s.PutOff("west"))
		}
		mu.Lock()
		for _, c := range []Cluster{"west", "east"} {
			if waited[c] == 0 || waited[c] > takes+every {
				t.Errorf("what %s said waited %s", c, waited[c])
			}
		}
		mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		if last != put {
			t.Error("what was said last was never taken")
		}
		// It goes at once, whatever it took.
		for range 200 {
			s.Put(service("evil", "s", uint16(time.Since(began).Milliseconds())))
			time.Sleep(every)
		}
		s.DropCluster("evil")
		time.Sleep(every + takes)
		synctest.Wait()
		if last != nil {
			t.Error("a cluster that was dropped is put off")
		}
		cancel()
		<-done
	})
}
