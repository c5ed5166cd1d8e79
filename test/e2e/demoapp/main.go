// SPDX-License-Identifier: Apache-2.0

// Command demoapp is the application of the demo and of the end-to-end tests: a plain HTTP server and a plain HTTP client
// that know nothing of a mesh, of TLS or of other clusters.
//
//	demo-app serve                  answer every request with who and where we are
//	demo-app load URL               request URL on and on, one new connection each, one JSON line per answer
//	demo-app load --keep 8 URL      the same over 8 connections that are kept: that one breaks is a request that failed
//
// The client never retries. The server, told to end, keeps answering for its lame-duck time, as a service that wants no
// failed request during its rollouts must do on any Kubernetes.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/test/e2e/traffic"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	var err error
	switch {
	case len(os.Args) > 1 && os.Args[1] == "serve":
		err = serve(ctx, os.Args[2:])
	case len(os.Args) > 1 && os.Args[1] == "load":
		err = load(ctx, os.Args[2:])
	default:
		err = errors.New("usage: demo-app serve|load, see --help of each")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	address := flags.String("listen", ":8080", "where to listen")
	lameDuck := flags.Duration("lame-duck", 3*time.Second, "how long to go on answering after the request to end")
	_ = flags.Parse(args)

	self := traffic.Answer{Cluster: os.Getenv("CLUSTER"), Pod: os.Getenv("POD_NAME"), Service: os.Getenv("SERVICE")}
	server := &http.Server{
		Addr:              *address,
		ReadHeaderTimeout: 5 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			// What was sent is read and thrown away; only the wire between the clusters is of interest.
			if _, err := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, 1<<20)); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			answer := self
			answer.Client = r.RemoteAddr
			answer.Echo = r.Header.Get(traffic.MarkerHeader)
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(answer)
		}),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	duck := time.NewTimer(*lameDuck)
	defer duck.Stop()
	select {
	case err := <-failed:
		return err
	case <-duck.C:
	}
	ending, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return server.Shutdown(ending)
}

func load(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("load", flag.ExitOnError)
	interval := flags.Duration("interval", 25*time.Millisecond, "time from the start of one request to the start of the next")
	count := flags.Int("count", 0, "how many requests; 0 is until told to end")
	timeout := flags.Duration("timeout", 5*time.Second, "longest time for one request")
	untilEOF := flags.Bool("until-eof", false, "end when standard input ends: whoever started this is gone")
	keptConnections := flags.Int("keep", 0, "request over so many connections that are kept, each at the interval; 0: a new connection for each request")
	marker := flags.String("marker", "", "text sent with each request and echoed by the server")
	_ = flags.Parse(args)
	if flags.NArg() != 1 {
		return errors.New("usage: demo-app load [flags] URL")
	}
	if *untilEOF {
		following, cancel := context.WithCancel(ctx)
		defer cancel()
		ctx = following
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			cancel()
		}()
	}
	results := make(chan traffic.Result, 1024)
	if *keptConnections > 0 {
		var failed error
		go func() {
			defer close(results)
			failed = keep(ctx, *keptConnections, *interval, *timeout, flags.Arg(0), *marker, results)
		}()
		if err := printAll(results); err != nil {
			return err
		}
		return failed
	}
	client := &http.Client{
		Timeout: *timeout,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext:       (&net.Dialer{Timeout: *timeout}).DialContext,
		},
	}
	inFlight := make(chan struct{}, 64)
	go func() {
		defer close(results)
		tick := time.NewTicker(*interval)
		defer tick.Stop()
		for id := 1; *count == 0 || id <= *count; id++ {
			select {
			case <-ctx.Done():
				id = -1
			case <-tick.C:
			}
			if id < 0 {
				break
			}
			inFlight <- struct{}{}
			go func() {
				defer func() { <-inFlight }()
				results <- request(client, id, flags.Arg(0), *marker)
			}()
		}
		for range cap(inFlight) {
			inFlight <- struct{}{}
		}
	}()
	return printAll(results)
}

// printAll writes results as they come, a line each.
func printAll(results <-chan traffic.Result) error {
	out := json.NewEncoder(os.Stdout)
	for r := range results {
		if err := out.Encode(r); err != nil {
			return fmt.Errorf("write result: %w", err)
		}
	}
	return nil
}

// request makes one request on a connection of its own. Its context is not the program's: what was begun is finished.
func request(client *http.Client, id int, url, marker string) (result traffic.Result) {
	result = traffic.Result{ID: id, Start: time.Now()}
	defer func() { result.Took = time.Since(result.Start) }()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		result.Error = err.Error()
		return result
	}
	if marker != "" {
		req.Header.Set(traffic.MarkerHeader, marker)
	}
	resp, err := client.Do(req)
	if err != nil {
		result.Error = err.Error()
		return result
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		result.Error = resp.Status
		return result
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<16)).Decode(&result.Answer); err != nil {
		result.Error = "answer: " + err.Error()
	}
	return result
}
