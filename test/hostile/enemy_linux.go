// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"os/exec"
	"syscall"
)

// dieWithParent has the process killed when this one ends, however it does: one that is paused cannot notice it. The kernel looks at the thread that
// started it, and the threads of Go programs last unless somebody locks a goroutine to one and lets it end.
func dieWithParent(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
