// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// TestAdminIsOnLoopback refuses addresses that others could reach.
func TestAdminIsOnLoopback(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:15000": true, "127.8.9.1:0": true, "[::1]:15000": true, "localhost:15000": true, "[::ffff:127.0.0.1]:1": true,
		":15000": false, "0.0.0.0:15000": false, "[::]:15000": false, "10.0.0.1:15000": false, "node-1:15000": false, "15000": false,
	} {
		if got := onLoopback(address); got != want {
			t.Errorf("%s: %v, want %v", address, got, want)
		}
	}
	x := &Proxy{}
	if err := x.ServeAdmin(t.Context(), AdminOptions{Admin: ":0", Gatherer: prometheus.NewRegistry()}); err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("served everybody: %v", err)
	}
}

// TestLevelIsSet changes the level, and nothing for a level that is none.
func TestLevelIsSet(t *testing.T) {
	var level slog.LevelVar
	for _, tc := range []struct {
		query, body string
		status      int
		want        slog.Level
	}{
		{"level=debug", "debug\n", http.StatusOK, -1}, {"level=trace", "level must be info or debug\n", http.StatusBadRequest, -1},
		{"", "level must be info or debug\n", http.StatusBadRequest, -1}, {"level=info", "info\n", http.StatusOK, 0},
	} {
		w := httptest.NewRecorder()
		setLevel(w, httptest.NewRequest(http.MethodPost, "/logging?"+tc.query, nil), &level)
		if w.Code != tc.status || w.Body.String() != tc.body || level.Level() != tc.want {
			t.Errorf("%q: %d %q, level %v", tc.query, w.Code, w.Body.String(), level.Level())
		}
	}
}
