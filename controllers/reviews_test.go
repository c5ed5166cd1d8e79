// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"errors"
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
		if _, _, ok := r.lookup("a"); ok {
			t.Fatal("a token is known that nobody showed")
		}
		r.keep("a", caller, nil, time.Now())
		time.Sleep(reviewLife - time.Nanosecond)
		if got, _, ok := r.lookup("a"); !ok || got != caller {
			t.Errorf("within its life the token belongs to %+v, %v", got, ok)
		}
		if _, _, ok := r.lookup("b"); ok {
			t.Error("another token is taken for the first")
		}
		time.Sleep(time.Nanosecond)
		if _, _, ok := r.lookup("a"); ok {
			t.Error("the token is known beyond its life")
		}
		r.keep("slow", caller, nil, time.Now().Add(-reviewLife))
		if _, _, ok := r.lookup("slow"); ok {
			t.Error("the life of a review begins with its question, not with its answer")
		}

		for i := range 2 * maxReviews {
			r.keep(fmt.Sprint(i), caller, nil, time.Now())
		}
		if len(r.judged) > maxReviews {
			t.Errorf("%d tokens are remembered, more than %d", len(r.judged), maxReviews)
		}
		if _, _, ok := r.lookup(fmt.Sprint(2*maxReviews - 1)); !ok {
			t.Error("the newest is not remembered")
		}
		r.keep("bad", xds.Caller{}, errors.New("not accepted"), time.Now())
		if _, err, ok := r.lookup("bad"); !ok || err == nil {
			t.Errorf("a refusal is not remembered: %v, %v", err, ok)
		}
		time.Sleep(refusalLife)
		if _, _, ok := r.lookup("bad"); ok {
			t.Error("a refusal is remembered beyond its life")
		}
		time.Sleep(reviewLife)
		r.keep("c", caller, nil, time.Now())
		if len(r.judged) != 1 {
			t.Errorf("%d tokens are remembered though all but one are too old", len(r.judged))
		}
	})
}
