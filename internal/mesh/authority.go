// SPDX-License-Identifier: Apache-2.0

package mesh

import (
	"net/netip"
	"strings"
)

// PlainAuthority gives the one form that a host has here, and its port: a name in small letters and without a dot at the end, an address as package netip writes it, without brackets
// and as IPv4 if it stands for one of these, and a port without zeros before it, or "" if there is none. false: it is no host of which there is one reading.
func PlainAuthority(authority string) (host, port string, ok bool) {
	host, port = strings.ToLower(authority), ""
	if strings.HasPrefix(host, "[") {
		end := strings.IndexByte(host, ']')
		if end < 0 {
			return "", "", false
		}
		host, port = host[1:end], host[end+1:]
		address, err := netip.ParseAddr(host)
		if err != nil || !address.Is6() || address.Zone() != "" {
			return "", "", false
		}
		host = address.Unmap().String()
	} else {
		if at := strings.IndexByte(host, ':'); at >= 0 {
			host, port = host[:at], host[at:]
		}
		host = strings.TrimSuffix(host, ".")
		if host == "" || host[0] == '.' || strings.Contains(host, "..") || strings.HasSuffix(host, ".") || strings.ContainsFunc(host, func(c rune) bool {
			return c != '.' && c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z')
		}) {
			return "", "", false
		}
	}
	if port, ok = PlainPort(port); !ok {
		return "", "", false
	}
	return host, port, true
}

// PlainPort gives a port as PlainAuthority does, from what follows a host: nothing, or a colon and digits.
func PlainPort(after string) (string, bool) {
	if after == "" {
		return "", true
	}
	digits := after[1:]
	if after[0] != ':' || strings.ContainsFunc(digits, func(c rune) bool { return c < '0' || c > '9' }) {
		return "", false
	}
	if plain := strings.TrimLeft(digits, "0"); plain != "" || digits == "" {
		return plain, true
	}
	return "0", true
}
