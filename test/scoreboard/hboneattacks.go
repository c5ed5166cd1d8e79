// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/isthmus-mesh/isthmus/test/hostile"
)

const (
	attackRounds = 5                      // of each attack, alternating with its control and with quiet
	attackTime   = 700 * time.Millisecond // of each round, about a thousand times ping-pong
	attackers    = 8                      // connections at once
	// attackShare is the attackers' processor time, as a part of one core. They come from elsewhere in the world, and their own effort must not be taken
	// for what they cause; but without any they would do nothing. At a quarter of a core they come back about a hundred times a second.
	attackShare = 0.25
	attackGoal  = 3.0 // at most: the good client's p99 under attack, as a multiple of its p99 beside the same amount of noise
	// attackMemory is what the server may hold for its attackers at most, as a multiple of what it holds for as many honest and idle connections
	// with as many streams, and attackNoise, which is by how much two measurements of the same differ, in bytes: the stacks that the runtime keeps for later make most of it.
	attackMemory = 2.0
	attackNoise  = 512 << 10
)

// representative are the attacks that are measured: those that others fell for, and those that cost the most for the attacker's effort. With each goes
// how many streams it opens on a connection.
var representative = []struct {
	name    string
	streams int
}{
	{"rapid-reset", 0},
	{"made-you-reset-by-increment", 0},
	{"made-you-reset-by-data-after-end", 0},
	{"continuation-flood", 0},
	{"header-bomb", 0},
	{"ping-flood", 0},
	{"settings-flood", 0},
	{"settings-stuffed", 190},
	{"empty-data", 1},
	{"tiny-data", 1},
	{"window-flood", 1},
	{"unread-answers", 0},
	{"handshake-flood", 0},
	{"reconnect-storm", 1},
}

// hboneAttacks measures how long a good client waits for its 1 KiB ping-pong while attackers, who come back whenever they lose their connection, do their
// worst to the server.
//
// Server, good client and attackers are three processes. The control is the same amount of noise: the same attackers make as many connections, with as
// many bytes, to a port of the same server that ends TLS and drops what comes. That much anybody can cause who may connect, whatever the server
// makes of it, and with two cores for all of them it is felt: a handshake alone is a millisecond of one. So the ratio to the control says what the
// attack adds by what it says. An attack with many streams has honest visits for its control, with as many streams on each connection: they too are
// anybody's to open. The ratio to the quiet state is printed beside it. Ratios are of neighbouring rounds, and of those the median counts.
//
// Memory is what the server holds at the end of a round while attackers and good client hold still, less what it holds once they have left. It is not
// compared with what was held before they came: the runtime never gives back the descriptors of goroutines, nor all of their stacks, of which whoever opens as many streams
// as it may leaves a megabyte behind, honest or not. (After 40 rounds of unread-answers it was as much as after 4.)
//
// The value is the ratio of the worst attack; the row also fails if the server holds too much memory under any of them.
func hboneAttacks(ctx context.Context, out io.Writer) (result, error) {
	s, err := newSiege(ctx)
	if err != nil {
		return result{}, err
	}
	defer s.close()
	r := result{Unit: "ratio", Goal: attackGoal}
	fits := true
	for _, a := range representative {
		w, err := s.measure(ctx, a.name, a.streams)
		if err != nil {
			return result{}, fmt.Errorf("%s: %w", a.name, err)
		}
		fmt.Fprintf(out, "%-33s p99 %9v, with noise %8v, quiet %8v: %6.2f of noise, %6.2f of quiet; memory %d KiB, idle %d KiB; per second %d connections, %d KiB\n",
			a.name, w.attacked, w.noisy, w.quiet, w.toNoise, w.toQuiet, w.memory>>10, w.idle>>10, w.connections, w.bytes>>10)
		if w.toNoise > r.Value {
			control := w.noisy.Seconds()
			r.Value, r.Control = w.toNoise, &control
		}
		if float64(w.memory) > attackMemory*float64(w.idle)+attackNoise {
			fmt.Fprintf(out, "%s: that is too much memory\n", a.name)
			fits = false
		}
	}
	fmt.Fprintln(out, "the value is the worst ratio to noise, the control the p99 in seconds of the noise beside it, the goal the value's upper bound")
	r.Pass = r.Value <= attackGoal && fits
	return r, nil
}

// siege is the set-up: a server in this process, a good client, and the attackers.
type siege struct {
	victim *victim
	good   *goodClient
	enemy  *hostile.Enemy
}

func newSiege(ctx context.Context) (s *siege, err error) {
	s = &siege{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.victim, err = startVictim(ctx); err != nil {
		return s, err
	}
	if s.good, err = startGoodClient(ctx, s.victim.address); err != nil {
		return s, err
	}
	if s.enemy, err = hostile.StartEnemy(ctx); err != nil {
		return s, err
	}
	_, err = s.good.play(attackTime) // warm
	return s, err
}

func (s *siege) close() {
	if s.enemy != nil {
		_ = s.enemy.Close() // it was told everything that matters
	}
	if s.good != nil {
		_ = s.good.close() // likewise
	}
	if s.victim != nil {
		s.victim.close()
	}
}

func (s *siege) order(attack string) hostile.Order {
	return hostile.Order{
		Attack: attack, By: hostile.Client, Address: s.victim.address, From: enemyAddress, Attackers: attackers, Share: attackShare,
	}
}

// wave is what was found of one attack. All but memory are medians.
type wave struct {
	attacked, noisy, quiet time.Duration // p99
	toNoise, toQuiet       float64
	memory, idle           int64 // bytes: the most, and for honest connections
	connections, bytes     int64 // per second
}

func (s *siege) measure(ctx context.Context, name string, streams int) (w wave, err error) {
	if w.idle, err = s.honest(streams); err != nil {
		return w, err
	}
	var attacked, noisy, quiet, toNoise, toQuiet []float64
	for range attackRounds {
		if err := ctx.Err(); err != nil {
			return w, err
		}
		q, err := s.good.play(attackTime)
		if err != nil {
			return w, err
		}
		a, held, did, err := s.under(s.order(name))
		if err != nil {
			return w, err
		}
		left, err := s.alone()
		if err != nil {
			return w, err
		}
		w.memory = max(w.memory, held-left)
		noise := s.order("noise")
		noise.Address = s.victim.sink
		if streams > 1 {
			noise = s.order("visit")
			noise.Streams = streams
		}
		noise.Each = did.Bytes / max(did.Connections, 1)
		noise.Rate = float64(did.Bytes) / attackTime.Seconds()
		n, _, _, err := s.under(noise)
		if err != nil {
			return w, err
		}
		attacked, noisy, quiet = append(attacked, a.P99.Seconds()), append(noisy, n.P99.Seconds()), append(quiet, q.P99.Seconds())
		toNoise, toQuiet = append(toNoise, a.P99.Seconds()/n.P99.Seconds()), append(toQuiet, a.P99.Seconds()/q.P99.Seconds())
		w.connections += did.Connections
		w.bytes += did.Bytes
	}
	w.connections = int64(float64(w.connections) / attackRounds / attackTime.Seconds())
	w.bytes = int64(float64(w.bytes) / attackRounds / attackTime.Seconds())
	w.attacked, w.noisy, w.quiet = seconds(median(attacked)), seconds(median(noisy)), seconds(median(quiet))
	w.toNoise, w.toQuiet = median(toNoise), median(toQuiet)
	return w, nil
}

// under has the good client play while an order is obeyed, and tells what the server held at the end of it.
func (s *siege) under(o hostile.Order) (f feeling, held int64, did hostile.Report, err error) {
	if _, err = s.enemy.Begin(o); err != nil {
		return f, held, did, err
	}
	if f, err = s.good.play(attackTime); err != nil {
		return f, held, did, err
	}
	if err = s.enemy.Pause(func() { held = memory() }); err != nil {
		return f, held, did, err
	}
	did, err = s.enemy.End()
	return f, held, did, err
}

// alone tells what the server holds once nobody but the good client has a connection.
func (s *siege) alone() (held int64, err error) {
	for end := time.Now().Add(10 * time.Second); s.victim.connections.Load() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return 0, errors.New("connections of attackers did not end within 10 s of their leaving")
		}
	}
	return memory(), nil
}

// honest tells how much more the server holds for as many honest connections as there are attackers.
func (s *siege) honest(streams int) (held int64, err error) {
	o := s.order("")
	o.Streams = streams
	if _, err = s.enemy.Begin(o); err != nil {
		return held, err
	}
	for end := time.Now().Add(10 * time.Second); s.victim.connections.Load() < attackers || s.victim.streams.Load() < int64(attackers*streams); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return held, errors.New("honest connections were not made within 10 s")
		}
	}
	if err = s.enemy.Pause(func() { held = memory() }); err != nil {
		return held, err
	}
	if _, err = s.enemy.End(); err != nil {
		return held, err
	}
	left, err := s.alone()
	return held - left, err
}

func seconds(s float64) time.Duration {
	return time.Duration(s * float64(time.Second)).Round(time.Microsecond)
}
