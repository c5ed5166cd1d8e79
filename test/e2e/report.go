// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// Check is one claim and what was seen of it.
type Check struct {
	Name   string
	Passed bool
	Detail string
}

// Report is the list of checks so far. It prints each one as it comes.
type Report struct {
	mu     sync.Mutex
	out    io.Writer
	start  time.Time
	checks []Check
}

// NewReport writes its progress to out, with the time since now in front of each line.
func NewReport(out io.Writer) *Report { return &Report{out: out, start: time.Now()} }

// Step announces what comes next.
func (r *Report) Step(format string, args ...any) { r.line("", fmt.Sprintf(format, args...)) }

// Note says something that is neither a step nor a check.
func (r *Report) Note(format string, args ...any) { r.line("       ", fmt.Sprintf(format, args...)) }

// Check records a claim. Detail says what was seen, whether it passed or not.
func (r *Report) Check(name string, passed bool, detail string, args ...any) bool {
	c := Check{Name: name, Passed: passed, Detail: fmt.Sprintf(detail, args...)}
	r.mu.Lock()
	r.checks = append(r.checks, c)
	r.mu.Unlock()
	mark := "  ok   "
	if !passed {
		mark = "  FAIL "
	}
	r.line(mark, fmt.Sprintf("%s (%s)", c.Name, c.Detail))
	return passed
}

// Passed counts the checks that passed, and all of them.
func (r *Report) Passed() (passed, all int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.checks {
		if c.Passed {
			passed++
		}
	}
	return passed, len(r.checks)
}

// Failed lists the checks that did not pass.
func (r *Report) Failed() []Check {
	r.mu.Lock()
	defer r.mu.Unlock()
	var failed []Check
	for _, c := range r.checks {
		if !c.Passed {
			failed = append(failed, c)
		}
	}
	return failed
}

func (r *Report) line(mark, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if mark == "" {
		fmt.Fprintln(r.out)
	}
	fmt.Fprintf(r.out, "%6.1fs %s%s\n", time.Since(r.start).Seconds(), mark, text)
}
