// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	toolscache "k8s.io/client-go/tools/cache"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
)

const (
	// steady is how long a watch must last to be one that works.
	steady = 5 * time.Second
	// watchFailures is how many attempts in a row make a failing watch. One is nothing: watches are cut, and what they would go on from may be
	// gone (410); either is mended by the next attempt.
	watchFailures = 3
)

// follows is how following works, by path: the last answer, failures in a row, and since when a watch is open.
type follows struct {
	mu sync.Mutex
	at map[string]follow
}

type follow struct {
	code     int // of the last answer; 0: none came
	failures int
	problem  string
	opened   time.Time // zero while no watch is open
	failed   time.Time // when the last failure was
}

// change needs no lock held.
func (f *follows) change(path string, how func(*follow)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.at == nil {
		f.at = map[string]follow{}
	}
	at := f.at[path]
	how(&at)
	f.at[path] = at
}

func (f *follows) failed(path string, code int, problem string) {
	f.change(path, func(at *follow) {
		at.code, at.problem, at.opened, at.failed = code, problem, time.Time{}, time.Now()
		at.failures++
	})
}

// record gives the failures in a row, and when the last one was.
func (f *follows) record(path string) (failures int, last time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.at[path].failures, f.at[path].failed
}

// answered is about a list or a watch that begins well.
func (f *follows) answered(path string, watch bool) {
	f.change(path, func(at *follow) {
		if at.code = http.StatusOK; watch {
			at.opened = time.Now()
		}
	})
}

// ended is about a watch that began well. It was one that works if it lasted.
func (f *follows) ended(path string, problem error) {
	f.change(path, func(at *follow) {
		if at.opened.IsZero() {
			return // that it failed was said already
		}
		if time.Since(at.opened) >= steady {
			at.failures = 0
		} else if problem != nil && !errors.Is(problem, io.EOF) {
			at.problem, at.failed = problem.Error(), time.Now()
			at.failures++
		}
		at.opened = time.Time{}
	})
}

// verdict gives the reason to show, if there is one. A right that is lacking needs no second attempt.
func (f *follows) verdict(now time.Time) (reason, message string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, path := range slices.Sorted(maps.Keys(f.at)) {
		at := f.at[path]
		switch {
		case at.code == http.StatusForbidden:
			return v1alpha1.ReasonForbidden, "the kubeconfig's user lacks a right (see config/rbac/reader.yaml for those needed): it may not list or watch " + path
		case at.code == http.StatusUnauthorized:
			return v1alpha1.ReasonUnauthorized, "the API server does not accept the kubeconfig's credentials"
		case at.failures >= watchFailures && (at.opened.IsZero() || now.Sub(at.opened) < steady):
			reason = v1alpha1.ReasonWatchFailing
			message = fmt.Sprintf("the API server answers, but %s cannot be followed, so what is known may be old: %s", path, excerpt(at.problem, maxProblem))
		}
	}
	return reason, message
}

// noteWatchError looks again, because a reflector failed; it goes on trying by itself.
func (c *connection) noteWatchError(ctx context.Context, _ *toolscache.Reflector, _ error) {
	if ctx.Err() == nil {
		c.judge()
	}
}

// judge turns what was noted into the reason shown, and forgets it after it stopped coming.
func (c *connection) judge() {
	reason, message := c.intake.follows.verdict(time.Now())
	if recently(&c.intake.tooMuch) {
		reason = v1alpha1.ReasonTooLarge
		message = fmt.Sprintf("an answer of the API server, or what it has to say of all kinds of objects, is larger than is read: %d MiB for one page of a list, %d MiB for one object, and for all together as much as is kept of one cluster (--remote-room, %d MiB)",
			maxPage>>20, maxObject>>20, c.feed.room.most>>20)
	}
	if c.feed.room.full() {
		reason = v1alpha1.ReasonTooLarge
		message = fmt.Sprintf("the cluster's objects take more than the %d MiB that are kept of one cluster (--remote-room), so that its changes are read about once a minute only", c.feed.room.most>>20)
	}
	flooding := recently(&c.intake.held)
	c.update(func(h *health) {
		h.flooding = flooding
		if !h.reachable || h.phase == phaseRefused {
			return // that is the better explanation
		}
		if reason == "" && h.phase == phaseSyncing && time.Since(h.began) > 3*probeEvery {
			h.reason = v1alpha1.ReasonSlow
			h.message = "the first read goes on since " + h.began.UTC().Format(time.RFC3339) + ": the API server, or the way to it, is slow"
			return
		}
		h.reason, h.message = reason, message
	})
}
