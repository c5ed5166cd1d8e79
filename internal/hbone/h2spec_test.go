// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	h2spec "github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"
	"golang.org/x/net/http2"
)

// verdicts counts what h2spec found. Its default suite has 145 cases; strict adds one, a rule that the RFC words with SHOULD.
type verdicts struct{ passed, strictPassed, failed, skipped int }

// TestH2Spec runs all of h2spec over TLS, its strict case included, against a server that answers GET and POST too. The numbers are asserted, so that a
// case that was skipped and a suite that shrank fail as loudly as a broken rule.
//
// Its own runner prints as it goes and ends the process when a connection fails; here each case is a subtest, "http2 5.1 case 3".
func TestH2Spec(t *testing.T) {
	for _, tc := range []struct {
		name    string
		set     Settings
		beneath func(net.Conn) net.Conn
		without string // the one case that does not hold with these settings
		want    verdicts
	}{
		{name: "smallest frames", set: Settings{MaxFrameSize: minFrameSize}, beneath: direct, want: verdicts{passed: 145, strictPassed: 1}},
		// That case sends HEADERS of 17.5 KB as a frame that is too large, which it is not where 1 MiB is allowed.
		{name: "default settings", beneath: direct, without: "http2 4.2 case 3", want: verdicts{passed: 144, strictPassed: 1}},
		{name: "smallest frames, copied", set: Settings{MaxFrameSize: minFrameSize}, beneath: copied, want: verdicts{passed: 145, strictPassed: 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			conf := serveH2Spec(t, tc.set, tc.beneath)
			var got verdicts
			for _, suite := range []*spec.TestGroup{generic.Spec(), h2spec.Spec(), hpack.Spec()} {
				eachCase(suite, func(name string, c *spec.TestCase) {
					if name != tc.without {
						t.Run(name, func(t *testing.T) { got.run(t, conf, c) })
					}
				})
			}
			if got != tc.want {
				t.Errorf("%+v, want %+v", got, tc.want)
			}
		})
	}
}

// eachCase goes through the cases of a group and of the groups below it, numbered as h2spec does.
func eachCase(g *spec.TestGroup, do func(name string, c *spec.TestCase)) {
	for i, c := range slices.Concat(g.Tests, g.StrictTests) {
		do(fmt.Sprintf("%s %s case %d", g.Key, g.Section, i+1), c)
	}
	for _, below := range g.Groups {
		eachCase(below, do)
	}
}

func (v *verdicts) run(t *testing.T, conf *config.Config, c *spec.TestCase) {
	v.failed++ // until it has ended well, also if it does not come back
	conn, err := spec.Dial(conf)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	err = c.Run(conf, conn)
	var broken *spec.TestError
	switch {
	case errors.Is(err, spec.ErrSkipped):
		v.failed--
		v.skipped++
		t.Errorf("%s: skipped", c.Desc)
	case errors.As(err, &broken):
		t.Errorf("%s: %s\nwant one of %q\ngot %s", c.Desc, c.Requirement, broken.Expected, broken.Actual)
	case err != nil:
		t.Errorf("%s: %v", c.Desc, err)
	case c.Strict:
		v.failed--
		v.strictPassed++
	default:
		v.failed--
		v.passed++
	}
}

// direct and copied are the two ways to write: see Transport.
func direct(nc net.Conn) net.Conn { return NewTransport(nc) }
func copied(nc net.Conn) net.Conn { return nc }

// serveH2Spec serves on loopback until the test ends, and says how h2spec gets there.
func serveH2Spec(t *testing.T, set Settings, beneath func(net.Conn) net.Conn) *config.Config {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	secure := &tls.Config{Certificates: []tls.Certificate{testCertificate}, MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}}
	set.anyMethod = true
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { respondAll(t, tls.Server(beneath(nc), secure), set, &serving) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		serving.Wait()
	})
	return &config.Config{
		Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port, Path: "/", TLS: true, Insecure: true, Strict: true,
		// No case passes by waiting: what it wants to see comes in milliseconds, and only a case that fails waits this long. So it may be longer
		// than any hiccup of a busy machine; only less than PingInterval, for each of our PINGs makes h2spec wait anew.
		Timeout: 5 * time.Second,
		// As h2spec's command has it: one field of this many bytes fits into a HEADERS frame, five do not.
		MaxHeaderLen: 4000,
	}
}

// respondAll answers what comes over one connection. h2spec does not close all of its own, so the end of the test does.
func respondAll(t *testing.T, nc *tls.Conn, set Settings, serving *sync.WaitGroup) {
	if err := nc.HandshakeContext(t.Context()); err != nil {
		t.Errorf("handshake: %v", err)
		_ = nc.Close()
		return
	}
	c := NewServer(nc, set)
	for {
		r, err := c.Accept(t.Context())
		if err != nil {
			break
		}
		serving.Go(func() { respond(r) })
	}
	_ = nc.Close()
	<-c.Done()
}

// respond is an HTTP server in short: 200, then the whole request is read, then comes the body. A content-length is compared here, because it means
// nothing to a tunnel (RFC 9110 §9.3.6) and the library leaves it alone.
func respond(r *Request) {
	s, err := r.Accept(nil)
	if err != nil {
		return
	}
	defer s.Close()
	n, err := io.Copy(io.Discard, s)
	if err != nil {
		return
	}
	if length := r.Header.Get("content-length"); length != "" && length != strconv.FormatInt(n, 10) {
		_ = s.Reset(uint32(http2.ErrCodeProtocol)) // always nil
		return
	}
	// Five bytes are the least that lets h2spec play with windows.
	_, _ = io.WriteString(s, "hello, h2spec\n")
}
