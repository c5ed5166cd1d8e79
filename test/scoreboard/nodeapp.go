// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/test/rig"
)

// asNodeApp in the environment makes this program an application of a pod for the rows of the node proxy: it reads orders from its standard input, does one
// after the other, and ends with it.
const asNodeApp = "ISTHMUS_SCOREBOARD_APP"

// The ports of an application that serves.
const (
	portEcho = "8080" // messages come back
	portSink = "8081" // bytes are dropped; the end comes when all are read
	portByte = "8082" // a byte comes back, and then the end
)

// appOrder is what an application is told to do.
type appOrder struct {
	Do     string // the name of one of appWork
	Listen string
	To     string // host:port

	Connections int           // at once
	Each        int           // things to do on or by each of them
	PerSecond   float64       // all of them together
	For         time.Duration // how long
	Bytes       int

	Authority map[string][]byte // who signs the certificates of relays
	Serving   bool              // a relay with TLS is the server of it
}

// appFound is what came of it.
type appFound struct {
	Error string
	Took  []float64     // µs, one for each thing done
	Wall  time.Duration // all of it
	Heard []heard       // of each connection
}

// appWork is what an application can do. Whatever goes on behind an answer ends with the process.
var appWork = map[string]func(appOrder) (appFound, error){
	"serve":            appServe,
	"relay":            appRelay,
	"relay-tls":        appRelayTLS,
	"relay-tls-in-tls": appRelayDouble,
	"requests":         appRequests,
	"bulk":             appBulk,
	"pour":             appPour,
	"hear":             appHear,
	"visit":            appVisit,
	"visits":           appVisits,
}

// beNodeApp does not return if this process is one.
func beNodeApp() {
	if os.Getenv(asNodeApp) == "" {
		return
	}
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var order appOrder
		if err := in.Decode(&order); err != nil {
			os.Exit(0) // nobody is there any more
		}
		found, err := appWork[order.Do](order)
		if err != nil {
			found.Error = err.Error()
		}
		if err := out.Encode(found); err != nil {
			os.Exit(1)
		}
	}
}

// nodeApp is such a process, seen from the row. It does one thing at a time.
type nodeApp struct {
	*rig.Process
	orders io.WriteCloser
	in     *json.Encoder
	out    *json.Decoder
}

// startApp begins an application in a pod; it ends with the rig.
func startApp(r *rig.Rig, in *rig.Pod) (*nodeApp, error) {
	cmd := exec.CommandContext(context.Background(), "/proc/self/exe") // it ends with its orders
	cmd.Env = append(os.Environ(), asNodeApp+"=1")
	cmd.Stderr = os.Stderr
	orders, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	answers, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p, err := r.Start(in.Space, cmd)
	if err != nil {
		return nil, err
	}
	return &nodeApp{Process: p, orders: orders, in: json.NewEncoder(orders), out: json.NewDecoder(answers)}, nil
}

// do has the application do something, and waits for it or the end of ctx, after which the application is of no use any more.
func (a *nodeApp) do(ctx context.Context, order appOrder) (appFound, error) {
	defer context.AfterFunc(ctx, func() { _ = a.Kill() })() // one that has ended need not be
	var found appFound
	err := a.in.Encode(order)
	if err == nil {
		err = a.out.Decode(&found)
	}
	if err == nil && found.Error != "" {
		err = errors.New(found.Error)
	}
	if err != nil {
		return found, fmt.Errorf("application, %s to %s: %w", order.Do, order.To, errors.Join(err, ctx.Err()))
	}
	return found, nil
}

// appServe listens as an application with all that others can ask of it.
func appServe(appOrder) (appFound, error) {
	for port, serve := range map[string]func(*net.TCPConn){
		portEcho: func(c *net.TCPConn) { echo(c) },
		portSink: func(c *net.TCPConn) { _, _ = io.CopyBuffer(onlyWriter{io.Discard}, c, make([]byte, block)) }, // the sender will miss the end
		portByte: func(c *net.TCPConn) { _ = answerByte(c) },                                                    // the caller will miss the byte
		portPour: listenToPour,
	} {
		if err := listenAll(net.ListenConfig{}, "0.0.0.0:"+port, serve); err != nil {
			return appFound{}, err
		}
	}
	return appFound{}, nil
}

// listenAll serves every connection to an address for as long as the process lives.
func listenAll(config net.ListenConfig, address string, serve func(*net.TCPConn)) error {
	l, err := config.Listen(context.Background(), "tcp4", address)
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c.(*net.TCPConn))
			}()
		}
	}()
	return nil
}

// dialAll opens a number of connections.
func dialAll(n int, to string) ([]*net.TCPConn, error) {
	var all []*net.TCPConn
	for range n {
		c, err := new(net.Dialer).DialContext(context.Background(), "tcp4", to)
		if err != nil {
			closeAll(all)
			return nil, err
		}
		all = append(all, c.(*net.TCPConn))
	}
	return all, nil
}

func closeAll(all []*net.TCPConn) {
	for _, c := range all {
		c.Close()
	}
}

// appRequests sends messages on some connections, so many a second on all of them together, and measures how long each takes to come back.
func appRequests(o appOrder) (appFound, error) {
	all, err := dialAll(o.Connections, o.To)
	if err != nil {
		return appFound{}, err
	}
	defer closeAll(all)
	var mu sync.Mutex
	var found appFound
	interval := time.Duration(float64(time.Second) * float64(o.Connections) / o.PerSecond)
	began := time.Now()
	work := make([]func() error, 0, len(all))
	for i, c := range all {
		first := began.Add(interval * time.Duration(i) / time.Duration(len(all)))
		work = append(work, func() error {
			var took []float64
			for at := first; at.Sub(began) < o.For; at = at.Add(interval) {
				time.Sleep(time.Until(at))
				if err := pingPong(c, 1, func(d time.Duration) { took = append(took, microseconds(d)) }); err != nil {
					return err
				}
			}
			mu.Lock()
			defer mu.Unlock()
			found.Took = append(found.Took, took...)
			return nil
		})
	}
	err = together(work...)
	found.Wall = time.Since(began)
	return found, err
}

// appBulk sends bytes, and waits until the other end has read them all.
func appBulk(o appOrder) (appFound, error) {
	all, err := dialAll(1, o.To)
	if err != nil {
		return appFound{}, err
	}
	c := all[0]
	defer c.Close()
	began := time.Now()
	if err := fill(c, make([]byte, block), o.Bytes); err != nil {
		return appFound{}, err
	}
	if err := c.CloseWrite(); err != nil {
		return appFound{}, err
	}
	if err := atEnd(c); err != nil {
		return appFound{}, err
	}
	return appFound{Wall: time.Since(began)}, nil
}

// visit opens a connection for one byte each way.
func visit(to string) error {
	c, err := new(net.Dialer).DialContext(context.Background(), "tcp4", to)
	if err != nil {
		return err
	}
	return errors.Join(askByte(c.(*net.TCPConn)), c.Close())
}

// appVisit does so one after the other, and measures each.
func appVisit(o appOrder) (appFound, error) {
	var found appFound
	err := times(o.Each, func() error {
		began := time.Now()
		err := visit(o.To)
		found.Took = append(found.Took, microseconds(time.Since(began)))
		return err
	})
	return found, err
}

// appVisits does so several at once, and measures all together.
func appVisits(o appOrder) (appFound, error) {
	work := make([]func() error, o.Connections)
	for i := range work {
		work[i] = func() error { return times(o.Each, func() error { return visit(o.To) }) }
	}
	began := time.Now()
	err := together(work...)
	return appFound{Wall: time.Since(began)}, err
}
