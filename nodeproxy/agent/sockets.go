// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// socketLook is how often it is seen whether the sockets still have their names.
const socketLook = 2 * time.Second

// watchSockets returns an error when the file of a socket is gone: somebody has emptied the run directory, and neither proxies nor the
// CNI plugin can reach us any more. Its caller ends the agent, and the one that starts in its place makes them anew. A file that is
// another one is left alone: it is the socket of an agent that took over.
func watchSockets(ctx context.Context, paths ...string) error {
	missing := map[string]int{} // looks in a row; one may be in the moment in which a socket is made
	tick := time.NewTicker(socketLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for _, path := range paths {
			if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
				missing[path] = 0
			} else if missing[path]++; missing[path] > 1 {
				return fmt.Errorf("somebody removed the socket %s", path)
			}
		}
	}
}
