// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/test/hostile"
)

// wave is what one attack, mounted by several attackers at once who come back whenever they lose their connection, may achieve.
type wave struct {
	// ends are the fates that attacking connections may meet here, and one of them must be met while the siege lasts. None: nothing that they do is
	// forbidden, so that they are bounded by windows, MaxStreams, or the bounds of whoever uses this package.
	ends []fate
	// slow attacks meet their fate if they last long enough: their pace is ours.
	slow bool
	// settings changes those of the attacked.
	settings func(*Settings)
	// streams is how many each connection has in the idle state with which the memory is compared.
	streams int
	// holds is how many bytes each attacking connection may have the attacked hold besides, because the windows allow it to send so much.
	holds int64
	// says is how many bytes a caller sends on a stream before it listens, 100 if it is 0.
	says int
	// attackers is how many attack at once; 0 means manyAttackers.
	attackers int
}

const (
	manyAttackers = 8
	// attackShare is their processor time together, as a part of a core: they are to be a nuisance by what they say, not by using the victim's machine.
	attackShare = 0.5
	// maxSiegeTime is how long the good client may take for what it takes a few milliseconds otherwise. It is generous: machines are slow, and the time
	// itself is judged elsewhere.
	maxSiegeTime = time.Minute
)

// siegeTime is how long each attack lasts at least. It lasts longer if the good client needs that to make progress.
func siegeTime() time.Duration {
	if testing.Short() {
		return 100 * time.Millisecond
	}
	return 500 * time.Millisecond
}

// side is who is attacked.
type side interface {
	// mount has the enemy attack, under these settings.
	mount(o hostile.Order, s Settings)
	// streams is how many the enemy has open on how many connections.
	streams() (streams, connections int)
	// dismount ends the attack.
	dismount() hostile.Report
	// outcome tells how connections ended so far, and why.
	outcome() *tally
	// close ends what is left on this side.
	close()
}

// TestSiege has many hostile clients attack a server that a good client uses, and hostile servers attack a process whose good client uses another
// server. The good client must see no error and get on; the memory in use must stay below twice of what it is when all connections are honest and
// idle; and the attackers' connections must end as they should, each with its typed error and its event. How long the good client waits is not judged
// here but by the scoreboard's row hbone-attacks.
func TestSiege(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("attackers come from 127.0.0.2, which only Linux has without being told")
	}
	enemy := startEnemy(t)
	for _, front := range []struct {
		name  string
		by    hostile.Role
		waves map[string]wave
		side  func(t *testing.T, v *victim, w wave) side
	}{
		{"server", hostile.Client, wavesAtServer, func(t *testing.T, v *victim, _ wave) side { return &besiegedServer{t, v, enemy} }},
		{"client", hostile.Server, wavesAtClient, func(t *testing.T, _ *victim, w wave) side { return newCallers(t, enemy, w.says) }},
	} {
		for name := range front.waves {
			if _, ok := hostile.Named(front.by, name); !ok {
				t.Errorf("there is no attack %q on a %s", name, front.name)
			}
		}
		for _, a := range hostile.All(front.by) {
			t.Run(front.name+"/"+a.Name, func(t *testing.T) {
				w, ok := front.waves[a.Name]
				if !ok {
					t.Fatal("nobody says what this attack may achieve")
				}
				before := runtime.NumGoroutine()
				lay := func() (measured []string) {
					defer noneLeft(t, before)
					return besiege(t, enemy, hostile.Order{By: front.by, Attack: a.Name}, w, front.side)
				}
				// What is measured, memory and how far the good client got, others on the machine may spoil, but hardly twice.
				measured := lay()
				if len(measured) > 0 && !t.Failed() {
					t.Logf("laid again, because of %q", measured)
					measured = lay()
				}
				for _, what := range measured {
					t.Error(what)
				}
			})
		}
	}
}

// besiege lays one siege. What is wrong beyond doubt fails the test, what may be a matter of measurement is returned.
func besiege(t *testing.T, enemy *hostile.Enemy, order hostile.Order, w wave, newSide func(*testing.T, *victim, wave) side) (measured []string) {
	floor := memoryFloor()
	v := newVictim(t)
	defer v.close()
	good := newGoodClient(t, v.listener.Addr().String())
	defer good.close()
	attacked := newSide(t, v, w)
	defer attacked.close()
	order.Attackers, order.Share = manyAttackers, attackShare
	if w.attackers > 0 {
		order.Attackers = w.attackers
	}
	order.Streams = w.streams

	honest := order
	honest.Attack = ""
	attacked.mount(honest, Settings{})
	within(t, "honest connections are made", func() bool {
		streams, connections := attacked.streams()
		return connections == order.Attackers && streams == connections*w.streams
	})
	idle := memoryHeld(t, enemy, good) - floor
	attacked.dismount()
	within(t, "honest connections end", func() bool { return gone(attacked) })

	var s Settings
	if w.settings != nil {
		w.settings(&s)
	}
	mounted := time.Now()
	attacked.mount(order, s)
	f := endure(t, enemy, good, attacked, w)
	report := attacked.dismount()
	left := poll(maxSiegeTime, func() bool { return gone(attacked) })
	ends := attacked.outcome()
	f.memory -= floor
	t.Logf("memory %d KiB idle, %d KiB at most; good client: %+v in %v; enemy: %d connections, %d KiB, %.2f s of processor; ends: %v",
		idle>>10, f.memory>>10, f.did, f.took.Round(time.Millisecond), report.Connections, report.Bytes>>10, report.Processor, ends.said())

	allowed := w.ends
	if took := time.Since(mounted); took >= s.withDefaults(true).PrefaceTimeout && !polite(order) {
		allowed = append(slices.Clip(allowed), silent) // on a slow machine a siege may last so long that this is what ends those who answer nothing
	}
	wrong := ends.unexpected(allowed)
	if most := 2*max(idle, 0) + int64(order.Attackers)*w.holds + memoryNoise; f.memory > most {
		measured = append(measured, fmt.Sprintf("%d KiB in use under attack, %d KiB before it: more than the %d KiB allowed", f.memory>>10, idle>>10, most>>10))
	}
	if !f.did.enough() {
		measured = append(measured, fmt.Sprintf("the good client got no further than %+v in %v", f.did, f.took))
	}
	if !f.met {
		wrong = append(wrong, fmt.Sprintf("while the enemy was there no connection ended as it should, %v", w.ends))
	}
	if !left {
		wrong = append(wrong, "what the enemy had open does not end when it leaves")
	}
	begun := good.progress()
	within(t, "the good client gets on after the siege", func() bool { return good.progress().since(begun).enough() })
	for _, what := range wrong {
		t.Error(what)
	}
	return measured
}

// polite says whether the attackers answer PINGs.
func polite(o hostile.Order) bool {
	a, _ := hostile.Named(o.By, o.Attack)
	return a.Polite
}

// gone says whether nothing of the enemy is left.
func gone(s side) bool {
	streams, connections := s.streams()
	return streams == 0 && connections == 0
}

// findings are what was seen of a siege while it lasted.
type findings struct {
	took   time.Duration
	memory int64    // the most that was held, in bytes
	did    progress // of the good client
	met    bool     // a connection ended as it should
}

// endure waits until the siege has lasted long enough, the good client has got on, and a connection has met its fate.
func endure(t *testing.T, enemy *hostile.Enemy, good *goodClient, attacked side, w wave) (f findings) {
	t.Helper()
	began, first := time.Now(), good.progress()
	for {
		f.memory = max(f.memory, memoryHeld(t, enemy, good))
		f.took, f.did = time.Since(began), good.progress().since(first)
		f.met = w.slow || attacked.outcome().met(w.ends)
		over := f.took >= siegeTime() && f.did.enough() && f.met
		if over || f.took > maxSiegeTime || t.Failed() {
			return f
		}
		time.Sleep(siegeTime() / 10)
	}
}

// poll waits until ok, for the given time at most, and tells whether it came true.
func poll(limit time.Duration, ok func() bool) bool {
	for end := time.Now().Add(limit); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// within wants it to come true while a siege may last.
func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	if !poll(maxSiegeTime, ok) {
		t.Fatalf("in %v it did not come true that %s", maxSiegeTime, what)
	}
}
