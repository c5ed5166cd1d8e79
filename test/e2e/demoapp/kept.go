// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/isthmus-mesh/isthmus/test/e2e/traffic"
)

// kept is one connection that is kept for as long as it lasts. net/http's client would hide that it broke: it dials again for what may be asked twice.
type kept struct {
	request *http.Request
	timeout time.Duration
	nc      net.Conn
	answers *bufio.Reader
}

// keep requests url over n connections, each at the interval, until ctx ends. A connection that breaks is a request that failed; the next one dials anew.
func keep(ctx context.Context, n int, interval, timeout time.Duration, url, marker string, results chan<- traffic.Result) error {
	request, err := http.NewRequest(http.MethodGet, url, nil) //nolint:noctx // every exchange has a deadline of its own
	if err != nil {
		return err
	}
	if marker != "" {
		request.Header.Set(traffic.MarkerHeader, marker)
	}
	ended := make(chan struct{})
	for i := range n {
		go func() {
			defer func() { ended <- struct{}{} }()
			k := kept{request: request, timeout: timeout}
			defer k.close()
			tick := time.NewTicker(interval)
			defer tick.Stop()
			for id := i + 1; ctx.Err() == nil; id += n {
				result := traffic.Result{ID: id, Start: time.Now()}
				answer, err := k.ask()
				if result.Answer = answer; err != nil {
					result.Error = err.Error()
					k.close()
				}
				result.Took = time.Since(result.Start)
				results <- result
				select {
				case <-ctx.Done():
				case <-tick.C:
				}
			}
		}()
	}
	for range n {
		<-ended
	}
	return nil
}

func (k *kept) ask() (answer traffic.Answer, err error) {
	if k.nc == nil {
		port := k.request.URL.Port()
		if port == "" {
			port = "80"
		}
		if k.nc, err = (&net.Dialer{Timeout: k.timeout}).DialContext(context.Background(), "tcp", net.JoinHostPort(k.request.URL.Hostname(), port)); err != nil {
			return answer, err
		}
		k.answers = bufio.NewReader(k.nc)
	}
	if err := k.nc.SetDeadline(time.Now().Add(k.timeout)); err != nil {
		return answer, err
	}
	if err := k.request.Write(k.nc); err != nil {
		return answer, fmt.Errorf("kept connection: %w", err)
	}
	response, err := http.ReadResponse(k.answers, k.request)
	if err != nil {
		return answer, fmt.Errorf("kept connection: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<16))
	if err != nil {
		return answer, fmt.Errorf("kept connection: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return answer, errors.New(response.Status)
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return answer, fmt.Errorf("answer: %w", err)
	}
	return answer, nil
}

func (k *kept) close() {
	if k.nc != nil {
		k.nc.Close()
		k.nc = nil
	}
}
