// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
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
	f.change(path, func(at *follow) { at.code, at.problem, at.opened = code, problem, time.Time{}; at.failures++ })
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
		if time.Since(at.opened) >= steady {
			at.failures = 0
		} else if problem != nil && !errors.Is(problem, io.EOF) {
			at.problem = problem.Error()
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
			message = fmt.Sprintf("the API server answers, but %s cannot be followed, so what is known may be old: %s", path, at.problem)
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
		message = fmt.Sprintf("the API server sends more than the %d MiB that are read of one kind of object", maxAnswer>>20)
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
		h.reason, h.message = reason, message
	})
}

// explainUnreachable names the reason and gives a message without credentials.
func explainUnreachable(host string, err error) (reason, message string) {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var hostname x509.HostnameError
	switch {
	case apierrors.IsUnauthorized(err):
		return v1alpha1.ReasonUnauthorized, "the API server does not accept the kubeconfig's credentials"
	case apierrors.IsForbidden(err):
		return v1alpha1.ReasonForbidden, "the kubeconfig's user lacks a right (see config/rbac/reader.yaml for those needed): " + err.Error()
	case errors.As(err, &unknown):
		return v1alpha1.ReasonUntrusted, host + " proves itself by a certificate that certificate-authority-data does not vouch for: " + unknown.Error()
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return v1alpha1.ReasonUntrusted, host + " proves itself by a certificate that is not valid by our clock: " + invalid.Error()
	case errors.As(err, &invalid):
		return v1alpha1.ReasonUntrusted, host + " proves itself by a certificate that is not valid: " + invalid.Error()
	case errors.As(err, &hostname):
		return v1alpha1.ReasonUntrusted, host + " proves itself by a certificate for another name: " + hostname.Error()
	case errors.Is(err, context.DeadlineExceeded):
		return v1alpha1.ReasonUnreachable, fmt.Sprintf("%s does not answer within %s", host, probeTimeout)
	}
	return v1alpha1.ReasonUnreachable, err.Error()
}

// explainSkew is about a server's clock that is ahead of ours, or behind if ahead is negative.
func explainSkew(ahead time.Duration) string {
	direction := "ahead of"
	if ahead < 0 {
		direction = "behind"
	}
	// Rounded, so that it does not change with every question.
	return fmt.Sprintf("the API server's clock is about %s %s ours: certificates and tokens may seem expired, or not yet valid, on one side",
		ahead.Abs().Round(clockSlack), direction)
}
