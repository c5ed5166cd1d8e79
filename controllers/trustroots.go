// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/internal/ca"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// givenRoots is what a ConfigMap holds.
type givenRoots struct {
	domain  string
	roots   [][]byte
	revoked [][]byte // revocation lists
	refused error    // why some lists of the ConfigMap do not count; nil: all do
}

// with is both together.
func (g givenRoots) with(other givenRoots) givenRoots {
	return givenRoots{domain: other.domain, roots: union(g.roots, other.roots), revoked: union(g.revoked, other.revoked)}
}

// tooMany says of what there is more than proxies take.
func (g givenRoots) tooMany() error {
	size := 0
	for _, list := range g.revoked {
		size += len(list)
	}
	switch {
	case len(g.roots) > mesh.MaxRoots:
		return fmt.Errorf("%s has more than %d roots", g.domain, mesh.MaxRoots)
	case len(g.revoked) > mesh.MaxLists:
		return fmt.Errorf("%s has more than %d revocation lists", g.domain, mesh.MaxLists)
	case size > mesh.MaxListBytes:
		return fmt.Errorf("%s has revocation lists of more than %d bytes", g.domain, mesh.MaxListBytes)
	}
	return nil
}

// chooseRoots gives what each ConfigMap tells, by name, and why some cannot be used. Of those, what they told before counts, if it was about the
// same domain. A domain's roots are those of the first ConfigMaps, in order of names, that fit into a bundle: one that is larger would be refused by
// every proxy, and roots that were withdrawn with it stayed in use. base are those that are told anyway.
func chooseRoots(all []corev1.ConfigMap, before map[string]givenRoots, own string, base map[string]givenRoots, now time.Time) (given map[string]givenRoots, refused map[string]error) {
	given, refused = map[string]givenRoots{}, map[string]error{}
	told := maps.Clone(base) // by domain
	if told == nil {
		told = map[string]givenRoots{}
	}
	fits := func(g givenRoots) error { return told[g.domain].with(g).tooMany() }
	all = slices.SortedFunc(slices.Values(all), func(a, b corev1.ConfigMap) int { return cmp.Compare(a.Name, b.Name) })
	for i := range all {
		c := &all[i]
		earlier := before[c.Name]
		if earlier.domain != c.Labels[trustDomainLabel] {
			earlier = givenRoots{}
		}
		g, err := readGiven(c, own, earlier, now)
		if err == nil {
			if err = fits(g); err != nil {
				err = fmt.Errorf("with it, %w", err)
			}
		}
		if err != nil {
			refused[c.Name] = err
			if len(earlier.roots) == 0 || fits(earlier) != nil {
				continue
			}
			g = givenRoots{domain: earlier.domain, roots: earlier.roots, revoked: earlier.revoked}
			beside := g // whoever was revoked shall not be believed until the roots are mended
			if beside.revoked = ca.ReadOtherLists([]byte(c.Data[ca.RevokedKey]), nil, g.roots).Beside(g.revoked); fits(beside) == nil {
				g = beside
			}
		}
		given[c.Name] = g
		told[g.domain] = told[g.domain].with(g)
	}
	return given, refused
}

// readGiven reads the roots of a ConfigMap, and its revocation lists. earlier is what it told before. A list that cannot be used costs only itself; but as long as nothing tells whom it revoked, no root counts that did not before: authorities
// below the roots are not known here, so that it could be any of theirs.
func readGiven(c *corev1.ConfigMap, own string, earlier givenRoots, now time.Time) (givenRoots, error) {
	g := givenRoots{domain: c.Labels[trustDomainLabel]}
	if _, err := mesh.ParseIdentity("spiffe://" + g.domain + "/ns/n/sa/s"); err != nil {
		return g, fmt.Errorf("label %s: %q is not a trust domain", trustDomainLabel, g.domain)
	}
	if g.domain == own {
		return g, fmt.Errorf("label %s: %s is our own trust domain, whose roots are those of the authority", trustDomainLabel, g.domain)
	}
	var ended error // of a key whose roots have all ended; those of the other one count all the same
	for _, key := range trustKeys {
		if c.Data[key] == "" {
			continue
		}
		roots, err := ca.ReadRoots([]byte(c.Data[key]), now)
		if err != nil {
			err = fmt.Errorf("data %s: %w", key, err)
			if !errors.Is(err, ca.ErrEnded) {
				return g, err
			}
			ended = err
		}
		for _, root := range roots {
			g.roots = union(g.roots, [][]byte{root.Raw})
		}
	}
	switch {
	case len(g.roots) > 0:
	case ended != nil:
		return g, ended
	default:
		return g, errors.New("data has neither " + trustKeys[0] + " nor " + trustKeys[1])
	}
	lists := ca.ReadOtherLists([]byte(c.Data[ca.RevokedKey]), earlier.revoked, g.roots)
	if lists.Refused != nil {
		g.refused = fmt.Errorf("data %s: %w", ca.RevokedKey, lists.Refused)
	}
	if lists.Unknown {
		old := slices.DeleteFunc(slices.Clone(g.roots), func(root []byte) bool { return !holds(earlier.roots, root) })
		if len(old) == 0 {
			return g, g.refused
		}
		if len(old) < len(g.roots) {
			g.refused = fmt.Errorf("%w; roots that are new wait for it", g.refused)
		}
		g.roots = old
	}
	g.revoked = lists.DER
	return g, nil
}

// union is a with what b has beside it, in order.
func union(a, b [][]byte) [][]byte {
	out := slices.Clone(a)
	for _, der := range b {
		if !holds(out, der) {
			out = append(out, der)
		}
	}
	return out
}

func holds(all [][]byte, der []byte) bool {
	return slices.ContainsFunc(all, func(o []byte) bool { return bytes.Equal(o, der) })
}
