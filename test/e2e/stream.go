// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/test/e2e/traffic"
)

// stream is a client pod that requests one URL on and on.
type stream struct {
	*traffic.Log
	from   string
	kept   bool // its connections are kept
	cmd    *exec.Cmd
	cancel context.CancelFunc
	done   sync.WaitGroup
	stdin  io.Closer
	stderr bytes.Buffer
}

// startStream begins requests from the cluster's client pod, each on a connection of its own, without retries.
func startStream(ctx context.Context, c *cluster, url, marker string, interval time.Duration) (*stream, error) {
	return startLoad(ctx, c, "--interval", interval.String(), "--marker", marker, url)
}

// startKept begins requests over n connections that are kept, each at the interval. That one breaks is a request that failed.
func startKept(ctx context.Context, c *cluster, url, marker string, n int, interval time.Duration) (*stream, error) {
	s, err := startLoad(ctx, c, "--keep", fmt.Sprint(n), "--interval", interval.String(), "--marker", marker, url)
	if err != nil {
		return nil, err
	}
	s.kept = true
	return s, nil
}

func startLoad(ctx context.Context, c *cluster, arguments ...string) (*stream, error) {
	ctx, cancel := context.WithCancel(ctx)
	s := &stream{Log: traffic.NewLog(), from: c.Name, cancel: cancel}
	// A program started by exec outlives the kubectl that started it; the end of its standard input ends it.
	s.cmd = c.kubectlCommand(ctx, append([]string{"-n", demoNamespace, "exec", "-i", "deploy/client", "--", "/demo-app", "load", "--until-eof"}, arguments...)...)
	s.cmd.Stderr = &s.stderr
	stdin, err := s.cmd.StdinPipe()
	if err != nil {
		cancel()
		return nil, err
	}
	s.stdin = stdin
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		cancel()
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		cancel()
		return nil, fmt.Errorf("client in %s: %w", c.Name, err)
	}
	s.done.Go(func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var r traffic.Result
			if json.Unmarshal(lines.Bytes(), &r) == nil {
				s.Add(r)
			}
		}
		_ = s.cmd.Wait()
	})
	return s, nil
}

// stop ends the requests and waits for the client. What was begun is finished first, for at most a few seconds.
func (s *stream) stop() {
	_ = s.stdin.Close()
	force := time.AfterFunc(10*time.Second, s.cancel)
	defer force.Stop()
	s.done.Wait()
	s.cancel()
}

// request makes n requests from the cluster's client pod and waits for them.
func request(ctx context.Context, c *cluster, url, marker string, n int, interval time.Duration) (traffic.Results, error) {
	out, err := c.kubectl(ctx, "", "-n", demoNamespace, "exec", "deploy/client", "--",
		"/demo-app", "load", "--count", fmt.Sprint(n), "--interval", interval.String(), "--marker", marker, url)
	if err != nil {
		return nil, err
	}
	var results traffic.Results
	for dec := json.NewDecoder(bytes.NewReader([]byte(out))); dec.More(); {
		var r traffic.Result
		if err := dec.Decode(&r); err != nil {
			return nil, fmt.Errorf("client in %s: %w", c.Name, err)
		}
		results = append(results, r)
	}
	return results, nil
}
