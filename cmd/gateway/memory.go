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

// memory is what the process's container may have.
type memory struct {
	limit int64 // in bytes; 0: there is no limit, or the environment says what counts
	// changed is called when the limit of the process was set anew; nil: nobody wants to know.
	changed func()
}

// setMemory has garbage collected when the heap has grown by a share, in percent, of what is in use, and more eagerly when nine tenths of what the container may have are
// in use. GOGC and GOMEMLIMIT in the environment count instead.
func setMemory(percent int, env func(string) string, limitFile string) memory {
	if env("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
	if env("GOMEMLIMIT") != "" {
		return memory{}
	}
	text, err := os.ReadFile(limitFile)
	if err != nil {
		return memory{} // not in a container that has one
	}
	limit, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil || limit <= 0 { // "max": none
		return memory{}
	}
	m := memory{limit: limit}
	m.without(0)
	return m
}

// without takes away what a file needs that is kept in memory, and is the container's and not the heap's: twice its size, as it is there twice while it is written anew. At least half
// of what the container may have is left, as with less the process would do nothing but collect.
func (m memory) without(file int64) {
	if m.limit <= 0 {
		return
	}
	debug.SetMemoryLimit(max(m.limit-2*file, m.limit/2) / 10 * 9)
	if m.changed != nil {
		m.changed()
	}
}
