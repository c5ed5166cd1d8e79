// SPDX-License-Identifier: Apache-2.0

package reach

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// nameServer answers as it is told, after a while.
type nameServer struct {
	takes time.Duration
	addrs []netip.Addr
	err   error
	asked atomic.Int64
}

func (s *nameServer) LookupNetIP(ctx context.Context, _, _ string) ([]netip.Addr, error) {
	takes, addrs, err := s.takes, s.addrs, s.err
	s.asked.Add(1)
	select {
	case <-time.After(takes):
		return addrs, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func newLookups(t *testing.T, s *nameServer) *lookups {
	var work sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); work.Wait() })
	return &lookups{next: s, asking: func() {}, within: ctx, work: &work, names: map[string]*lookup{}}
}

// A name is asked for once for all who want it, and no more than every few seconds; what servers do not answer, or answer badly, ends nothing.
func TestNamesAreRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("127.0.0.1")}, []netip.Addr{netip.MustParseAddr("192.0.2.2")}
		s := &nameServer{takes: 20 * time.Millisecond, addrs: first}
		l := newLookups(t, s)
		look := func(want []netip.Addr, took time.Duration, asked int64) {
			t.Helper()
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			got, err := l.LookupNetIP(ctx, "ip", "lb.example")
			if n := s.asked.Load(); !slices.Equal(got, want) || (err == nil) != (want != nil) || time.Since(began) != took || n != asked {
				t.Errorf("%v, %v after %v and %d questions; want %v after %v and %d", got, err, time.Since(began), n, want, took, asked)
			}
			slices.Reverse(got) // whoever asks may do with it as he likes
		}
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() { look(first, s.takes, 1) })
		}
		all.Wait()
		look(first, 0, 1)
		s.addrs = second
		look(first, 0, 1)
		time.Sleep(freshFor)
		look(second, s.takes, 2)

		s.takes = time.Hour // the servers are away
		time.Sleep(freshFor)
		look(second, refreshWait, 3)
		look(second, 0, 3) // one has waited long enough
		time.Sleep(lookupTimeout)
		s.takes, s.err, s.addrs = time.Millisecond, errors.New("server failure"), nil
		look(second, s.takes, 4)
		time.Sleep(staleFor)
		look(nil, s.takes, 5)
		s.takes, s.err, s.addrs = time.Millisecond, nil, first
		look(first, s.takes, 6)
		time.Sleep(freshFor)
		s.err, s.addrs = &net.DNSError{IsNotFound: true}, nil
		look(nil, s.takes, 7) // there is no such name any more
		s.takes, s.err = time.Hour, nil
		time.Sleep(staleFor)
		look(nil, 3*time.Second, 8) // who asks gives up
	})
}

func TestNamesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &nameServer{addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}
		l := newLookups(t, s)
		for i := range maxNames + 10 {
			if _, err := l.LookupNetIP(t.Context(), "ip", fmt.Sprint(i)); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(l.names); n != maxNames {
			t.Errorf("%d names are remembered", n)
		}
		time.Sleep(staleFor)
		if _, err := l.LookupNetIP(t.Context(), "ip", "one more"); err != nil || len(l.names) != 1 {
			t.Errorf("%d names are remembered, %v", len(l.names), err)
		}
	})
}
