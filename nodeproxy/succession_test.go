// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nodeproxy

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
)

func newSuccession(t *testing.T, dir string) *succession {
	s := &succession{dir: dir, log: logr.Discard()}
	t.Cleanup(func() { s.resign(); s.lending.Wait() })
	return s
}

// lendNothing hangs up on whoever asks.
func lendNothing(conn *net.UnixConn) { shut(conn) }

// Who cannot find out for a moment whether there is an elder is none for that.
func TestClaimThatFailsForAMoment(t *testing.T) {
	dir := t.TempDir()
	elder, next := newSuccession(t, dir), newSuccession(t, dir)
	if !elder.claim(lendNothing) || next.claim(lendNothing) {
		t.Fatal("the first is not the elder, or the second is")
	}
	lock, away := elder.lockPath(), filepath.Join(dir, "away")
	elder.mu.Lock()                                                  // it would put its files back
	err := errors.Join(os.Rename(lock, away), os.Mkdir(lock, 0o700)) // cannot be opened for writing
	if next.claim(lendNothing) {
		t.Error("a lock that cannot be looked at makes an elder beside the one that lives")
	}
	err = errors.Join(err, os.Remove(lock), os.Rename(away, lock))
	elder.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	if next.claim(lendNothing) {
		t.Error("there are two elders")
	}
	elder.resign()
	if !next.claim(lendNothing) || next.lock == nil || next.listener == nil {
		t.Error("the next one is no elder that lends, although the first has resigned")
	}
}

// The first claim is another matter: where there cannot be others, connections are not to wait.
func TestClaimWhereNoneIsPossible(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := newSuccession(t, filepath.Join(file, "below"))
	for range 2 {
		if !s.claim(lendNothing) {
			t.Error("waits for others that there cannot be")
		}
	}
}

// An elder that cannot lend yet does later.
func TestElderListensLater(t *testing.T) {
	s := newSuccession(t, t.TempDir())
	obstacle := filepath.Join(s.socketPath(), "obstacle")
	if err := os.MkdirAll(obstacle, 0o700); err != nil {
		t.Fatal(err)
	}
	if !s.claim(lendNothing) {
		t.Fatal("no elder")
	}
	if err := os.Remove(obstacle); err != nil {
		t.Fatal(err)
	}
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for deadline := time.Now().Add(10 * time.Second); ; <-look.C {
		nc, err := net.Dial("unixpacket", s.socketPath())
		if err == nil {
			nc.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("does not listen: %v", err)
		}
	}
}

// Whoever empties the directory does not make the next proxy the first one.
func TestElderWhoseFilesAreRemoved(t *testing.T) {
	for name, file := range map[string]func(*succession) string{
		"all": func(s *succession) string { return s.dir }, "lock": (*succession).lockPath, "socket": (*succession).socketPath,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "state")
			elder, next := newSuccession(t, dir), newSuccession(t, dir)
			if !elder.claim(lendNothing) {
				t.Fatal("no elder")
			}
			if err := os.RemoveAll(file(elder)); err != nil {
				t.Fatal(err)
			}
			look := time.NewTicker(time.Millisecond)
			defer look.Stop()
			for deadline := time.Now().Add(10 * time.Second); ; <-look.C {
				_, lockErr := os.Stat(elder.lockPath())
				nc, err := net.Dial("unixpacket", elder.socketPath())
				if err == nil {
					nc.Close()
				}
				if err = errors.Join(lockErr, err); err == nil {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("is not found again: %v", err)
				}
			}
			if next.claim(lendNothing) {
				t.Error("there are two elders")
			}
			elder.resign()
			if !next.claim(lendNothing) {
				t.Error("the next one is no elder although the first has resigned")
			}
		})
	}
}

// Nor does it make one the first that waits for the elder already, and looks more often than the elder does.
func TestNextOneWhoseElderIsNotFound(t *testing.T) {
	for name, file := range map[string]func(*succession) string{"all": func(s *succession) string { return s.dir }, "lock": (*succession).lockPath} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "state")
			elder, next, last := newSuccession(t, dir), newSuccession(t, dir), newSuccession(t, dir)
			if !elder.claim(lendNothing) || next.claim(lendNothing) || last.claim(lendNothing) {
				t.Fatal("the first is not the elder, or another one is")
			}
			elder.mu.Lock() // it would put its files back
			err := os.RemoveAll(file(elder))
			if next.claim(lendNothing) {
				t.Error("there are two elders")
			}
			elder.mu.Unlock()
			if err != nil {
				t.Fatal(err)
			}
			elder.found(lendNothing)
			if next.claim(lendNothing) {
				t.Error("there are two elders once the first is found again")
			}
			elder.mu.Lock()
			err = os.RemoveAll(file(elder))
			elder.mu.Unlock()
			if err != nil {
				t.Fatal(err)
			}
			elder.resign()
			if !next.claim(lendNothing) || next.lock == nil || next.listener == nil {
				t.Error("the next one is no elder that lends, although the first has resigned")
			}
			if last.claim(lendNothing) {
				t.Error("there are two elders after the first")
			}
		})
	}
}

// An elder that hangs holds the pods of the node up once, not each of them.
func TestElderThatHangsIsAskedOnce(t *testing.T) {
	dir := t.TempDir()
	elder, next := newSuccession(t, dir), newSuccession(t, dir)
	if !elder.claim(lendNothing) || next.claim(lendNothing) {
		t.Fatal("the first is not the elder, or the second is")
	}
	elder.mu.Lock() // it would put its socket back
	shut(elder.listener)
	removed := os.Remove(elder.socketPath())
	hung, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: elder.socketPath(), Net: "unixpacket"})
	elder.mu.Unlock()
	if err = errors.Join(removed, err); err != nil {
		t.Fatal(err)
	}
	own, err := os.Open("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	n, err := NewNamespace(own)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	asked := 0
	var counting sync.WaitGroup
	counting.Go(func() {
		for {
			nc, err := hung.Accept()
			if err != nil {
				return
			}
			asked++
			defer nc.Close() // without a word, when all is over
		}
	})
	for range 3 {
		e := &entrance{fds: map[string]int{}}
		next.borrow(n, e)
		if e.loan != nil {
			t.Error("got something of an elder that does not answer")
		}
	}
	hung.Close()
	counting.Wait()
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}
