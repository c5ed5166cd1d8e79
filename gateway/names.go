// SPDX-License-Identifier: Apache-2.0

package gateway

import "strings"

// names finds what has a server name at one port. It is never changed once it is in use.
type names[V any] struct {
	exact map[string]V
	// wild are by what is behind the wildcard, with its dot: ".example.com".
	wild map[string]V
	any  *V
}

// put gives a hostname to v, unless it is somebody's; "" is every name, and none.
func (n *names[V]) put(hostname string, v V) {
	if hostname == "" {
		if n.any == nil {
			n.any = &v
		}
		return
	}
	at, name := &n.exact, hostname
	if suffix, ok := strings.CutPrefix(hostname, "*"); ok {
		at, name = &n.wild, suffix
	}
	if *at == nil {
		*at = map[string]V{}
	}
	if _, taken := (*at)[name]; !taken {
		(*at)[name] = v
	}
}

// find gives what has the name itself, or the longest wildcard that it fits, or every name.
func (n *names[V]) find(name string) (v V, ok bool) {
	if name != "" {
		if v, ok := n.exact[name]; ok {
			return v, true
		}
		for at := 1; at < len(name); at++ { // a wildcard stands for one character at least
			if name[at] == '.' {
				if v, ok := n.wild[name[at:]]; ok {
					return v, true
				}
			}
		}
	}
	if n.any != nil {
		return *n.any, true
	}
	return v, false
}
