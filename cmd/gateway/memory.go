// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"runtime/debug"
	"strconv"
	"strings"
)

// cgroupLimit is where the kernel says how much memory the process's container may have (cgroup v2).
const cgroupLimit = "/sys/fs/cgroup/memory.max"

// setMemory has garbage collected when the heap has grown by a share, in percent, of what is in use, and more eagerly when nine tenths of what the container may have are
// in use. GOGC and GOMEMLIMIT in the environment count instead.
func setMemory(percent int, env func(string) string, limitFile string) {
	if env("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
	if env("GOMEMLIMIT") != "" {
		return
	}
	text, err := os.ReadFile(limitFile)
	if err != nil {
		return // not in a container that has one
	}
	if limit, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && limit > 0 { // else "max": none
		debug.SetMemoryLimit(limit / 10 * 9)
	}
}
