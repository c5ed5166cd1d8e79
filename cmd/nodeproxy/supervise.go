// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/go-logr/logr"
)

const (
	// restartsEnv tells a process how many have crashed before it.
	restartsEnv = "NODEPROXY_RESTARTS"
	// longLife is how long a process must have lived for its crash not to count as one of a row.
	longLife = 10 * time.Second
	// maxCrashes in a row are seen here; then the kubelet is to see them.
	maxCrashes = 8
	// crashPause comes after the second crash in a row, and doubles.
	crashPause = 50 * time.Millisecond
	// badFlags is the status of a process that could not read its flags: another would not either.
	badFlags = 2
)

// supervise runs the command in a process below this one, and begins it again at once when it crashes: the kubelet takes ten seconds from the second crash on,
// in which all pods of the node would be cut off. It gives the status to end with: the command's own, when it ends because it was told to, or crashes too often.
func supervise(path string, args, env []string, log logr.Logger) int {
	// The process dies with the thread that made it: nobody is to be left without one who begins it again.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	for restarts, row := 0, 0; ; restarts++ {
		cmd := exec.CommandContext(context.Background(), path, args...) // it ends by signals
		cmd.Env = append(env, fmt.Sprintf("%s=%d", restartsEnv, restarts))
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		begun := time.Now()
		if err := cmd.Start(); err != nil {
			log.Error(err, "process cannot be started")
			return 1
		}
		told, status := attend(cmd, signals)
		if told || status == 0 || status == badFlags {
			return status
		}
		if row++; time.Since(begun) >= longLife {
			row = 1
		}
		if row >= maxCrashes {
			log.Info("process crashes again and again", "crashes", row)
			return status
		}
		log.Info("process crashed, beginning again", "status", cmd.ProcessState.String(), "lived", time.Since(begun).Round(time.Millisecond).String(), "restarts", restarts+1)
		if row > 1 && pauseOrTold(crashPause<<(row-2), signals) {
			return status
		}
	}
}

// attend passes signals on until the process ends. told says that there was one.
func attend(cmd *exec.Cmd, signals <-chan os.Signal) (told bool, status int) {
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			told = true
			_ = cmd.Process.Signal(s) // or it has ended, which is what is wanted
		case err := <-ended:
			failed, ok := errors.AsType[*exec.ExitError](err)
			switch {
			case err == nil:
				return told, 0
			case ok && failed.ExitCode() >= 0:
				return told, failed.ExitCode()
			default:
				return told, 1 // killed
			}
		}
	}
}

func pauseOrTold(d time.Duration, signals <-chan os.Signal) (told bool) {
	select {
	case <-time.After(d):
		return false
	case <-signals:
		return true
	}
}

// restarts is how many processes have crashed before this one.
func restarts() float64 {
	n, err := strconv.Atoi(os.Getenv(restartsEnv))
	if err != nil {
		return 0
	}
	return float64(n)
}
