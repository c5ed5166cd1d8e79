// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/xds"
)

func TestReviews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r reviews
		caller := xds.Caller{Namespace: "demo", ServiceAccount: "web", Pod: "web-1", PodUID: "u"}
		if _, ok := r.lookup("a"); ok {
			t.Fatal("a token is known that nobody showed")
		}
		r.keep("a", caller, time.Now())
		time.Sleep(reviewLife - time.Nanosecond)
		if got, ok := r.lookup("a"); !ok || got != caller {
			t.Errorf("within its life the token belongs to %+v, %v", got, ok)
		}
		if _, ok := r.lookup("b"); ok {
			t.Error("another token is taken for the first")
		}
		time.Sleep(time.Nanosecond)
		if _, ok := r.lookup("a"); ok {
			t.Error("the token is known beyond its life")
		}
		r.keep("slow", caller, time.Now().Add(-reviewLife))
		if _, ok := r.lookup("slow"); ok {
			t.Error("the life of a review begins with its question, not with its answer")
		}

		for i := range 2 * maxReviews {
			r.keep(fmt.Sprint(i), caller, time.Now())
		}
		if len(r.accepted) > maxReviews {
			t.Errorf("%d tokens are remembered, more than %d", len(r.accepted), maxReviews)
		}
		if _, ok := r.lookup(fmt.Sprint(2*maxReviews - 1)); !ok {
			t.Error("the newest is not remembered")
		}
		time.Sleep(reviewLife)
		r.keep("c", caller, time.Now())
		if len(r.accepted) != 1 {
			t.Errorf("%d tokens are remembered though all but one are too old", len(r.accepted))
		}
	})
}
