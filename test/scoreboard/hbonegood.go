// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/hbone"
	"github.com/isthmus-mesh/isthmus/test/hostile"
)

// goodMark holds the address of the server for a process that is to be the good client.
const goodMark = "ISTHMUS_GOOD_CLIENT"

// goodClient is a process that plays ping-pong on a stream: what is measured of it is what it feels, not what the server says.
type goodClient struct {
	cmd *exec.Cmd
	in  *json.Encoder
	out *json.Decoder
}

// feeling is what the good client felt for a while.
type feeling struct {
	Rounds   int
	P50, P99 time.Duration
	Problem  string
}

func startGoodClient(ctx context.Context, address string) (*goodClient, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	g := &goodClient{cmd: exec.CommandContext(ctx, self)}
	g.cmd.Env = append(os.Environ(), goodMark+"="+address)
	g.cmd.Stderr = os.Stderr
	in, err := g.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := g.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	g.in, g.out = json.NewEncoder(in), json.NewDecoder(out)
	g.cmd.Cancel = in.Close // it ends by itself
	return g, g.cmd.Start()
}

func (g *goodClient) close() error {
	return errors.Join(g.cmd.Cancel(), g.cmd.Wait())
}

// play has it measure for a while.
func (g *goodClient) play(d time.Duration) (feeling, error) {
	var f feeling
	err := g.in.Encode(d)
	if err == nil {
		err = g.out.Decode(&f)
	}
	if err == nil && f.Problem != "" {
		err = errors.New(f.Problem)
	}
	if err != nil {
		return f, fmt.Errorf("the good client: %w", err)
	}
	return f, nil
}

// beGoodClient turns this process into the good client if that is what it was started for.
func beGoodClient() {
	address := os.Getenv(goodMark)
	if address == "" {
		return
	}
	if err := playOnDemand(context.Background(), address, json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)); err != nil {
		fmt.Fprintln(os.Stderr, "good client:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func playOnDemand(ctx context.Context, address string, in *json.Decoder, out *json.Encoder) error {
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	conn, err := hbone.NewClient(tls.Client(nc, hostile.TLS()), hbone.Settings{})
	if err != nil {
		return err
	}
	defer conn.Close()
	stream, _, err := conn.Open(ctx, hostile.Echo, nil)
	if err != nil {
		return err
	}
	for {
		var d time.Duration
		if err := in.Decode(&d); err != nil {
			return nil // whoever asked is gone
		}
		f, err := askAndAnswer(stream, d)
		if err != nil {
			f.Problem = err.Error()
		}
		if err := out.Encode(f); err != nil {
			return err
		}
	}
}

const (
	pingSize = 1 << 10
	// pingEvery is the time between two rounds, so that the good client does not fill a core by itself.
	pingEvery = 500 * time.Microsecond
)

// askAndAnswer sends a message and waits for it to come back, again and again.
func askAndAnswer(stream io.ReadWriter, d time.Duration) (feeling, error) {
	var took []time.Duration
	message := make([]byte, pingSize)
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(pingEvery) {
		began := time.Now()
		if _, err := stream.Write(message); err != nil {
			return feeling{}, err
		}
		if _, err := io.ReadFull(stream, message); err != nil {
			return feeling{}, err
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	n := len(took)
	return feeling{Rounds: n, P50: took[n/2], P99: took[n*99/100]}, nil
}
