// SPDX-License-Identifier: Apache-2.0

// Package traffic is what the demo's application says about each request, and the log in which the demo keeps it.
package traffic

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// MarkerHeader carries a text that the server echoes; seen on a wire, it proves that the wire is not encrypted.
const MarkerHeader = "X-Demo-Marker"

// Answer is what a server says of itself.
type Answer struct {
	Cluster string `json:"cluster,omitempty"`
	Pod     string `json:"pod,omitempty"`
	Service string `json:"service,omitempty"`
	Client  string `json:"client,omitempty"` // the address that the server saw
	Echo    string `json:"echo,omitempty"`
}

// Result is one request as its client saw it. Error is empty for an answered request.
type Result struct {
	ID    int           `json:"id"`
	Start time.Time     `json:"start"`
	Took  time.Duration `json:"took"`
	Error string        `json:"error,omitempty"`
	Answer
}

// Log collects results as they come. It is safe for use by several goroutines.
type Log struct {
	mu      sync.Mutex
	results []Result
	grown   chan struct{} // closed and replaced at each Add
}

// NewLog is an empty log.
func NewLog() *Log { return &Log{grown: make(chan struct{})} }

// Add appends one result and wakes those who wait.
func (l *Log) Add(r Result) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.results = append(l.results, r)
	close(l.grown)
	l.grown = make(chan struct{})
}

// Since gives the results of requests that began at or after t, and a channel that is closed when there are more.
func (l *Log) Since(t time.Time) (Results, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out Results
	for _, r := range l.results {
		if !r.Start.Before(t) {
			out = append(out, r)
		}
	}
	return out, l.grown
}

// Results are some requests, in the order in which they ended.
type Results []Result

// Failed are those that got no answer.
func (rs Results) Failed() Results {
	return slices.DeleteFunc(slices.Clone(rs), func(r Result) bool { return r.Error == "" })
}

// By counts the answered ones by a property of the answer.
func (rs Results) By(property func(Result) string) map[string]int {
	counts := map[string]int{}
	for _, r := range rs {
		if r.Error == "" {
			counts[property(r)]++
		}
	}
	return counts
}

// Cluster and Pod are properties for By.
func Cluster(r Result) string { return r.Cluster }

// Pod names cluster and pod: pods of different clusters may have one name.
func Pod(r Result) string { return r.Cluster + "/" + r.Pod }

// Counts writes a map of By in a fixed order: "east 12, west 13".
func Counts(counts map[string]int) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, counts[name]))
	}
	if len(parts) == 0 {
		return "nobody"
	}
	return strings.Join(parts, ", ")
}
