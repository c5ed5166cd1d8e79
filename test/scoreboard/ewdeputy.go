// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/net/http2/hpack"
)

const (
	deputyAttempts = 10_000
	deputyAtOnce   = 8
	deputyPatience = 20 * time.Second // for one attempt
	// deputyHonest is the share of attempts in which nothing is wrong.
	deputyHonest = 0.1
)

// deputyAttempt is one try to reach what one may not, or, if all in it is honest, what one may.
type deputyAttempt struct {
	id            uint64
	way           string
	direct        string // the pod that is dialled; "": the gateway is
	outer, inner  *proof
	outerTo       claim // direct: none
	innerTo       claim
	outerHeaders  []hpack.HeaderField
	innerHeaders  []hpack.HeaderField
	outerStrange  bool // the outer request is no CONNECT with one authority
	innerStrange  bool
	honest        bool
	deliveredMost int // how often it may arrive
}

func (a deputyAttempt) String() string {
	return fmt.Sprintf("%d, %s: direct %q, outer %s to %q %v, inner %s to %q %v", a.id, a.way, a.direct, a.outer.name, a.outerTo.text, a.outerHeaders, a.inner.name, a.innerTo.text, a.innerHeaders)
}

// allowed is the oracle: whether an attempt may reach a service, by what whoever made it knows of it.
func (a deputyAttempt) allowed(service string) bool {
	mayHave := func(p *proof) bool { return p.valid && (p.friend || service != deputyVault) }
	if a.innerStrange || !mayHave(a.inner) {
		return false
	}
	straight := a.direct != "" || a.inner.name == theGateway // what it has to say for itself did not come through it
	if a.innerTo.names != service && (!straight || a.innerTo.names != "pod "+service) {
		return false
	}
	if a.direct != "" {
		return a.direct == service
	}
	return !a.outerStrange && mayHave(a.outer) && a.outerTo.names == service && service != deputySecret
}

// ewDeputy makes attempts to get through a gateway and node proxies where one may not, and counts those that got through.
func ewDeputy(ctx context.Context, out io.Writer) (_ result, err error) {
	s, err := newDeputyStage(ctx)
	if err != nil {
		return result{}, err
	}
	defer func() { err = errors.Join(err, s.rig.Close()) }()
	total := often(ctx, deputyAttempts)
	var (
		mu                       sync.Mutex
		attempts                 = make(map[uint64]deputyAttempt, total)
		replays, passed, missing int
		honest, illicit          int
		work                     = make(chan uint64)
		resumed                  int
	)
	workers := make([]func() error, deputyAtOnce)
	for i := range workers {
		workers[i] = func() error {
			for id := range work {
				rng := rand.New(rand.NewPCG(id, 6)) //nolint:gosec // to be had again
				a := s.generate(rng, id)
				mu.Lock()
				attempts[id] = a
				mu.Unlock()
				again, err := s.try(ctx, rng, a)
				if ctx.Err() != nil {
					return ctx.Err()
				}
				if a.honest && err != nil {
					fmt.Fprintf(out, "honest attempt %v: %v\n", a, err)
				}
				mu.Lock()
				if again {
					resumed++
				}
				mu.Unlock()
			}
			return nil
		}
	}
	go func() {
		defer close(work)
		for id := range uint64(total) {
			select {
			case work <- id + 1:
			case <-ctx.Done():
				return
			}
		}
	}()
	if err := together(workers...); err != nil {
		return result{}, err
	}
	for id, a := range attempts {
		got := s.reached(id)
		if a.honest {
			if honest++; len(got) == 0 {
				missing++
			}
		} else {
			illicit++
		}
		for _, service := range got {
			if !a.allowed(service) {
				passed++
				fmt.Fprintf(out, "PASSED to %s: %v\n", service, a)
			}
		}
		if len(got) > a.deliveredMost {
			replays++
			fmt.Fprintf(out, "PASSED %d times: %v\n", len(got), a)
		}
		delete(s.delivered, id)
	}
	for id, got := range s.delivered {
		passed++
		fmt.Fprintf(out, "PASSED to %v without an attempt: %d\n", got, id)
	}
	fmt.Fprintf(out, "%d attempts, and %d with nothing wrong in them, of which %d did not arrive\n", illicit, honest, missing)
	return absolute(out,
		figure{What: "attempts that passed", Ours: float64(passed + replays + resumed)},
		figure{What: "attempts that may not pass", Ours: float64(illicit), Goal: float64(total) / 2, AtLeast: true},
		figure{What: "honest connections that were refused", Ours: float64(missing)},
		figure{What: "honest connections", Ours: float64(honest), Goal: 1, AtLeast: true},
	), nil
}
