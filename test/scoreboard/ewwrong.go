// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	wrongDeliveries = 10_000_000
	// wrongWorkers is how many connections each client has at once.
	wrongWorkers = 24
	// wrongTalk is how many questions a connection is kept for, unless it is one for a single question, as every second one is.
	wrongTalk = 400
	// wrongPatience is how long a client waits for a connection or an answer.
	wrongPatience = 2 * time.Second
	// wrongChurnEvery is how often something changes; every wrongSwapEvery-th time it is an address of a service. The clients change every wrongExchangeEvery.
	wrongChurnEvery    = 150 * time.Millisecond
	wrongSwapEvery     = 100
	wrongExchangeEvery = 10 * time.Second
)

// wrongCount is what became of questions.
type wrongCount struct {
	connections, deliveries, failures atomic.Int64
	toVault                           atomic.Int64 // of deliveries, of those who may
	service, identity                 atomic.Int64 // deliveries that should not have been
	first                             sync.Once
	example                           string // the first of these
}

// ewWrong asks services of two clusters with the same addresses for their pods' numbers, while the pods are replaced by pods of other services and identities at the same
// addresses, services exchange theirs, and so do clients; and counts what reached a pod of another service, or one that its client may not reach.
func ewWrong(ctx context.Context, out io.Writer) (_ result, err error) {
	s, err := newWrongStage(ctx)
	if err != nil {
		return result{}, err
	}
	defer s.closeWith(&err)
	goal := int64(often(ctx, wrongDeliveries))
	var n wrongCount
	step := 0
	for n.deliveries.Load() < goal {
		stop := s.ask(ctx, &n)
		began := time.Now()
		for time.Since(began) < wrongExchangeEvery && n.deliveries.Load() < goal && err == nil {
			if err = pause(ctx, wrongChurnEvery); err == nil {
				err = s.churn(ctx, step)
				step++
			}
		}
		if err = errors.Join(err, stop()); err != nil {
			return result{}, err
		}
		fmt.Fprintf(out, "%d deliveries on %d connections, %d to the vault; %d attempts failed; %d changes; wrong: %d service, %d identity\n",
			n.deliveries.Load(), n.connections.Load(), n.toVault.Load(), n.failures.Load(), step, n.service.Load(), n.identity.Load())
		if err := s.exchange(ctx); err != nil {
			return result{}, err
		}
	}
	if n.example != "" {
		fmt.Fprintf(out, "the first wrong one: %s\n", n.example)
	}
	if n.toVault.Load() == 0 {
		return result{}, errors.New("nobody reached the vault, so that the thief did not says nothing")
	}
	return absolute(out,
		figure{What: fmt.Sprintf("of %d deliveries on %d connections, to a wrong service", n.deliveries.Load(), n.connections.Load()), Ours: float64(n.service.Load())},
		figure{What: "by a wrong identity", Ours: float64(n.identity.Load())},
	), nil
}

// ask has the clients ask until stop is called, which waits for what is under way.
func (s *wrongStage) ask(ctx context.Context, n *wrongCount) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	work := make([]func() error, 0, len(s.clients)*wrongWorkers)
	vips := s.vips // the set of addresses stays the same
	for _, c := range s.clients {
		pod, account := c.Pod, c.account
		for range wrongWorkers {
			work = append(work, func() error {
				// All of a worker's connections are made on one thread, inside the pod.
				return pod.Inside(func() error {
					for ctx.Err() == nil {
						s.converse(ctx, account, vips[rand.IntN(len(vips))], n)
					}
					return nil
				})
			})
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- together(work...) }()
	return func() error {
		cancel()
		return <-ended
	}
}

// converse makes one connection to an address, and asks on it.
func (s *wrongStage) converse(ctx context.Context, account string, at netip.Addr, n *wrongCount) {
	dialled := time.Now()
	within, cancel := context.WithTimeout(context.Background(), wrongPatience)
	c, err := new(net.Dialer).DialContext(within, "tcp4", net.JoinHostPort(at.String(), portEcho))
	cancel()
	if err != nil {
		n.failures.Add(1)
		return
	}
	defer c.Close()
	questions := 1
	if rand.IntN(2) == 0 {
		questions = wrongTalk
	}
	for i := range questions {
		if ctx.Err() != nil {
			return
		}
		number, err := question(c, rand.Uint64(), wrongPatience)
		if err != nil {
			n.failures.Add(1)
			return
		}
		if i == 0 {
			n.connections.Add(1)
		}
		s.judge(account, at, number, dialled, time.Now(), n)
	}
}

// judge counts an answer.
func (s *wrongStage) judge(account string, at netip.Addr, number uint32, dialled, answered time.Time, n *wrongCount) {
	n.deliveries.Add(1)
	service := s.truth.served(number)
	if !s.truth.meant(at, service, dialled, answered) {
		n.service.Add(1)
		n.first.Do(func() {
			n.example = fmt.Sprintf("%s asked %v, and pod %d of service %d answered", account, at, number, service)
		})
	}
	if service != wrongVault {
		return
	}
	if account == wrongFriend {
		n.toVault.Add(1)
		return
	}
	n.identity.Add(1)
	n.first.Do(func() { n.example = fmt.Sprintf("%s asked %v, and pod %d of the vault answered", account, at, number) })
}
