// SPDX-License-Identifier: Apache-2.0

//go:build netns

package nodeproxy_test

import "testing"

// TestProxyThatEndsAloneGoesOn: the only proxy of a node is told to end while a connection lives. It serves until the next one has come, which takes its sockets from it; nothing is refused.
func TestProxyThatEndsAloneGoesOn(t *testing.T) {
	w := newWorld(t)
	long, err := w.client.dial("240.240.0.5:80")
	must(t, err)
	defer long.Close()
	_, err = long.Write([]byte("begun "))
	must(t, err)
	c := w.callers(t)
	c.more("in the beginning")
	ended := make(chan struct{})
	go func() { defer close(ended); w.stopEast() }()
	wait(t, "the drain", func() bool { return w.east.log.first(`"draining"`) != "" })
	c.more("with one that ends alone")
	certs, _ := issued(t, w.authority, nil)
	next, _ := w.east.begin(certs, &lines{})
	wait(t, "the next one to be ready", func() bool { return len(next.Waits()) == 0 })
	c.more("with both")
	long.Close()
	<-ended
	c.more("with the next one")
	c.stop()
}
