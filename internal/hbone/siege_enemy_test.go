// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"context"
	"os"
	"testing"

	"github.com/isthmus-mesh/isthmus/test/hostile"
)

// TestMain lets the program be its own enemy, see startEnemy.
func TestMain(m *testing.M) {
	hostile.BeEnemy()
	os.Exit(m.Run())
}

// startEnemy starts the process in which all attackers live.
func startEnemy(t *testing.T) *hostile.Enemy {
	t.Helper()
	enemy, err := hostile.StartEnemy(context.Background()) // it ends in the cleanup
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := enemy.Close(); err != nil {
			t.Errorf("the enemy: %v", err)
		}
	})
	return enemy
}

// report wants an order to have been obeyed.
func report(t testing.TB) func(hostile.Report, error) hostile.Report {
	return func(r hostile.Report, err error) hostile.Report {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
}
