// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const perSecond, atOnce = 2, 5
		s := newShares[int](perSecond, atOnce)
		for range atOnce {
			if !s.allow(1) {
				t.Fatal("refused within the share")
			}
		}
		if s.allow(1) {
			t.Error("allowed beyond the share")
		}
		if !s.allow(2) {
			t.Error("one who takes too much uses up the share of another")
		}
		time.Sleep(time.Second / perSecond)
		if !s.allow(1) || s.allow(1) {
			t.Error("it is not one more after its time")
		}
		for range 2 * atOnce {
			if !s.left(3) {
				t.Fatal("to look at a share takes of it")
			}
		}
		for range atOnce + 3 {
			s.charge(3)
		}
		time.Sleep(3 * time.Second / perSecond)
		if s.left(3) {
			t.Error("what was taken beyond the share was forgotten")
		}
		time.Sleep(time.Second / perSecond)
		if !s.left(3) {
			t.Error("it does not come back")
		}
		for i := range 3 * maxParties {
			if s.allow(i + 10); len(s.limit) > maxParties {
				t.Fatalf("%d parties are kept", len(s.limit))
			}
		}
		// Those who have their whole share again go before those who have not.
		time.Sleep(time.Hour)
		for range atOnce {
			s.allow(-1)
		}
		for i := range maxParties / 2 {
			s.allow(-2 - i)
		}
		if s.allow(-1) {
			t.Error("whoever has used up its share was forgotten before those who have theirs")
		}
	})
}
