// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
)

func TestFollowing(t *testing.T) {
	const pods = "/api/v1/pods"
	lasts := func(f *follows) { f.answered(pods, true); time.Sleep(steady) }
	cut := func(f *follows) { f.answered(pods, true); f.ended(pods, errors.New("connection reset")) }
	for _, tc := range []struct {
		name  string
		after func(*follows)
		want  string
	}{
		{"nothing yet", func(*follows) {}, ""},
		{"a watch", lasts, ""},
		{"a watch that was cut, once", func(f *follows) { lasts(f); cut(f) }, ""},
		{"a history that is gone, once", func(f *follows) { lasts(f); f.failed(pods, 410, "410 Gone") }, ""},
		{"watches that are cut at once", func(f *follows) { cut(f); cut(f); cut(f) }, v1alpha1.ReasonWatchFailing},
		{"another that has just begun", func(f *follows) { cut(f); cut(f); cut(f); f.answered(pods, true) }, v1alpha1.ReasonWatchFailing},
		{"another that lasts", func(f *follows) { cut(f); cut(f); cut(f); lasts(f) }, ""},
		{"cut again after one that lasted", func(f *follows) {
			cut(f)
			cut(f)
			cut(f)
			lasts(f)
			f.ended(pods, nil)
			cut(f)
		}, ""},
		{"errors of the server", func(f *follows) { f.failed(pods, 500, "500"); f.failed(pods, 500, "500"); f.failed(pods, 500, "500") }, v1alpha1.ReasonWatchFailing},
		{"a right that is lacking", func(f *follows) { lasts(f); f.failed(pods, 403, "403") }, v1alpha1.ReasonForbidden},
		{"the right given", func(f *follows) { f.failed(pods, 403, "403"); f.answered(pods, false) }, ""},
		{"credentials that ended", func(f *follows) { lasts(f); f.failed(pods, 401, "401") }, v1alpha1.ReasonUnauthorized},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := &follows{}
			tc.after(f)
			if got, message := f.verdict(time.Now()); got != tc.want {
				t.Errorf("%s: %q (%s), want %q", tc.name, got, message, tc.want)
			}
		})
	}
}
