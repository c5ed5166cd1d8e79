// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// enemyMark is set in the environment of a program that is to be the enemy.
const enemyMark = "ISTHMUS_HOSTILE"

// Enemy is a process of attackers: its processor time and its memory are not those of whom it attacks.
type Enemy struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
}

// Order is what the enemy is told to do.
type Order struct {
	// Attack is the name of an attack, or "noise", or "visit", or empty: then the attackers are honest, and have Streams idle streams on each connection.
	Attack  string
	Streams int
	// Each is how many bytes noise or a visit is on each connection.
	Each int64
	// By is the attackers' role.
	By Role
	// Address is whom clients attack; From, if set, is the address that they come from.
	Address, From string
	// Attackers is how many clients attack at once.
	Attackers int
	// Share bounds the enemy's processor time, as a part of one core; 0 does not.
	Share float64
	// Rate bounds what it writes, in bytes per second; 0 does not.
	Rate float64
}

// Report is what the enemy did.
type Report struct {
	Address     string  // where a server listens
	Connections int64   // so far
	Bytes       int64   // written to TCP
	Processor   float64 // seconds
	Problem     string
}

// BeEnemy turns this process into the enemy if that is what it was started for; then it does not return. A program that calls StartEnemy must call it
// before anything else.
func BeEnemy() {
	if os.Getenv(enemyMark) == "" {
		return
	}
	orders, reports := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var o Order
		if err := orders.Decode(&o); err != nil {
			os.Exit(0) // whoever gave the orders is gone
		}
		if err := obey(o, orders, reports); err != nil {
			fmt.Fprintln(os.Stderr, "hostile:", err)
			os.Exit(1)
		}
	}
}

// StartEnemy starts this program once more, as the enemy.
func StartEnemy(ctx context.Context) (*Enemy, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	e := &Enemy{cmd: exec.CommandContext(ctx, self)}
	e.cmd.Env = append(os.Environ(), enemyMark+"=1")
	e.cmd.Stderr = os.Stderr
	dieWithParent(e.cmd)
	if e.in, err = e.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := e.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	e.out = json.NewDecoder(bufio.NewReader(out))
	return e, e.cmd.Start()
}

// Close ends the process.
func (e *Enemy) Close() error {
	e.in.Close()
	return e.cmd.Wait()
}

// Begin has the enemy attack until End. The report tells where its servers listen.
func (e *Enemy) Begin(o Order) (Report, error) { return e.tell(o) }

// End has it stop, waits until the last connection is closed, and tells what was done since Begin.
func (e *Enemy) End() (Report, error) { return e.tell(Order{}) }

// Pause has f called while the enemy's process is stopped: its connections stay, and nothing more comes on them.
func (e *Enemy) Pause(f func()) error {
	if err := e.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	f()
	return e.cmd.Process.Signal(syscall.SIGCONT)
}

func (e *Enemy) tell(o Order) (Report, error) {
	var r Report
	err := json.NewEncoder(e.in).Encode(o)
	if err == nil {
		err = e.out.Decode(&r)
	}
	if err == nil && r.Problem != "" {
		err = errors.New(r.Problem)
	}
	if err != nil {
		err = fmt.Errorf("the enemy, told to %+v: %w", o, err)
	}
	return r, err
}

// obey does what it was told until the next order comes, whatever that is.
func obey(o Order, orders *json.Decoder, reports *json.Encoder) error {
	a := Idle(o.Streams)
	switch o.Attack {
	case "":
	case "noise":
		a = Noise(o.Each)
	case "visit":
		a = Visit(o.Streams, o.Each)
	default:
		var ok bool
		if a, ok = Named(o.By, o.Attack); !ok {
			return reports.Encode(Report{Problem: "no such attack"})
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var tally Tally
	budget := newAllowance(o, &tally)
	t := Target{Address: o.Address, From: net.ParseIP(o.From), Pace: budget.wait, Tally: &tally}
	var first Report
	var all sync.WaitGroup
	if o.By == Server {
		l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // is closed with ctx
		if err != nil {
			return err
		}
		first.Address = l.Addr().String()
		all.Go(func() { Lure(ctx, l, t, a) })
	} else {
		for range o.Attackers {
			all.Go(func() { Storm(ctx, t, a) })
		}
	}
	if err := reports.Encode(first); err != nil {
		return err
	}
	var next Order
	if err := orders.Decode(&next); err != nil {
		return nil // whoever gave the orders is gone, which the next reading of them tells again
	}
	stop()
	all.Wait()
	return reports.Encode(Report{
		Connections: tally.Connections.Load(), Bytes: tally.Bytes.Load(), Processor: (processorTime() - budget.began).Seconds(),
	})
}

// allowance is what the attackers may use together. What was not used within a moment is forfeited, so that they do not save up for a blow.
type allowance struct {
	share, rate float64 // of processor time, and bytes per second; 0 is no bound
	tally       *Tally
	began       time.Duration // of the processor

	mu    sync.Mutex
	spent time.Duration // of the processor, as of the last look
	wrote int64         // likewise
	free  time.Time     // when all that was used is paid for
}

// moment is how far back an allowance may be claimed.
const moment = 20 * time.Millisecond

func newAllowance(o Order, tally *Tally) *allowance {
	used := processorTime()
	return &allowance{share: o.Share, rate: o.Rate, tally: tally, began: used, spent: used}
}

// wait lets as much time pass as what was used since the last look takes to pay.
func (a *allowance) wait() {
	a.mu.Lock()
	spent, wrote, now := processorTime(), a.tally.Bytes.Load(), time.Now()
	var price time.Duration
	if a.share > 0 {
		price = time.Duration(float64(spent-a.spent) / a.share)
	}
	if a.rate > 0 {
		price = max(price, time.Duration(float64(wrote-a.wrote)/a.rate*float64(time.Second)))
	}
	a.spent, a.wrote = spent, wrote
	if earliest := now.Add(-moment); a.free.Before(earliest) {
		a.free = earliest
	}
	a.free = a.free.Add(price)
	until := a.free.Sub(now)
	a.mu.Unlock()
	time.Sleep(until)
}

// processorTime is what this process has used so far, in user and kernel mode.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // cannot fail with these arguments
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
