// SPDX-License-Identifier: Apache-2.0

package stranger

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

func confinedTo(t testing.TB, to string) []byte {
	t.Helper()
	out, err := AppendConfinement(nil, to)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

const cart = "shop/cart.shop.svc.cluster.local:80"

// ConfinedHello takes one confinement and nothing of the hello, however they come. The first words count: whoever is inside can add none.
func TestConfinedHello(t *testing.T) {
	hello, confined := helloOf(t), confinedTo(t, cart)
	longest := confinedTo(t, strings.Repeat("x", MaxConfinement))
	for _, tc := range []struct {
		name     string
		before   []byte
		confined string
		err      error
	}{
		{"none", nil, "", nil},
		{"one", confined, cart, nil},
		{"the longest", longest, strings.Repeat("x", MaxConfinement), nil},
		{"two", slices.Concat(confined, confinedTo(t, "shop/other.shop.svc.cluster.local:80")), cart, ErrNotTLS},
		{"an empty one", []byte("\x00isthmus\x00\x00"), "", ErrConfinement},
		{"one that is long", []byte("\x00isthmus\x04\x01"), "", ErrConfinement},
		{"another word", []byte("\x00isthmas"), "", ErrConfinement},
		{"another first byte", []byte("\x01isthmus"), "", ErrNotTLS},
	} {
		for _, step := range []int{1, 1 << 20} {
			r := NewRoom(1, 1)
			far, c := pair(t, r, nil)
			var to string
			done := make(chan error, 1)
			go func() {
				var err error
				to, err = c.ConfinedHello(t.Context())
				done <- err
			}()
			for rest := slices.Concat(tc.before, hello); len(rest) > 0; rest = rest[min(step, len(rest)):] {
				if _, err := far.Write(rest[:min(step, len(rest))]); err != nil {
					break // it was refused
				}
			}
			if err := <-done; !errors.Is(err, tc.err) || to != tc.confined {
				t.Errorf("%s: confined to %q, %v", tc.name, to, err)
			}
			if tc.err != nil {
				continue
			}
			if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len(hello))
			if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, hello) {
				t.Errorf("%s: the hello after it: %v", tc.name, err)
			}
		}
	}
}

// A gateway whose peer leaves before it says anything is nobody who says something wrong.
func TestConfinedAndSilent(t *testing.T) {
	far, c := pair(t, NewRoom(1, 1), nil)
	if _, err := far.Write(confinedTo(t, cart)); err != nil {
		t.Fatal(err)
	}
	far.Close()
	if _, err := c.ConfinedHello(t.Context()); !errors.Is(err, io.EOF) {
		t.Errorf("who ends after a confinement: %v", err)
	}
}

// Where no confinement is expected there is none.
func TestHelloTakesNoConfinement(t *testing.T) {
	far, c := pair(t, NewRoom(1, 1), nil)
	if _, err := far.Write(confinedTo(t, cart)); err != nil {
		t.Fatal(err)
	}
	if err := c.Hello(t.Context()); !errors.Is(err, ErrNotTLS) {
		t.Errorf("a confinement is taken: %v", err)
	}
}

func TestAppendConfinementBounds(t *testing.T) {
	for _, to := range []string{"", strings.Repeat("x", MaxConfinement+1)} {
		if out, err := AppendConfinement(nil, to); !errors.Is(err, ErrConfinement) || len(out) > 0 {
			t.Errorf("%d bytes: %d, %v", len(to), len(out), err)
		}
	}
}

// FuzzConfinement: it says the same whether it sees all at once or bit by bit, never asks for what it has nor for more than there may be, and what it reads is what was written.
func FuzzConfinement(f *testing.F) {
	f.Add(confinedTo(f, cart))
	f.Add(confinedTo(f, "x"))
	f.Add(helloOf(f))
	f.Add([]byte("\x00isthmus\xff\xff"))
	f.Add([]byte("\x00istHmus\x00\x01x"))
	f.Fuzz(func(t *testing.T, in []byte) {
		to, size, more, err := confinement(in)
		switch {
		case err != nil && (to != "" || more):
			t.Fatalf("%q, more %v, with %v", to, more, err)
		case size > confinementHeader+MaxConfinement || more && size <= len(in) || !more && size > len(in):
			t.Fatalf("%d bytes of %d, more %v", size, len(in), more)
		case to != "" && !bytes.Equal(confinedTo(t, to), in[:size]):
			t.Fatalf("%q is written otherwise", to)
		case (to == "") != (size == 0 || more):
			t.Fatalf("%q of %d bytes, more %v", to, size, more)
		}
		if more {
			return
		}
		for n := range len(in) + 1 {
			slow, bytes, more, e := confinement(in[:n])
			if more {
				continue
			}
			if slow != to || bytes != size || (e == nil) != (err == nil) {
				t.Fatalf("bit by bit %q %d %v, at once %q %d %v", slow, bytes, e, to, size, err)
			}
			return
		}
	})
}
