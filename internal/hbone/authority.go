// SPDX-License-Identifier: Apache-2.0

package hbone

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// maxHostname is the longest DNS name in its text form, in bytes (RFC 1035 §2.3.4, less the root's dot and lengths).
const maxHostname = 253

// Authority is the target of a CONNECT: an IP address or a hostname, and a port. Exactly one of IP and Hostname is set.
type Authority struct {
	IP       netip.Addr
	Hostname string
	Port     uint16
}

// Host gives the address or the hostname, without brackets.
func (a Authority) Host() string {
	if a.IP.IsValid() {
		return a.IP.String()
	}
	return a.Hostname
}

// String gives the form that ParseAuthority reads.
func (a Authority) String() string {
	if a.IP.IsValid() {
		return netip.AddrPortFrom(a.IP, a.Port).String()
	}
	return a.Hostname + ":" + strconv.Itoa(int(a.Port))
}

// ParseAuthority reads ip:port, [ipv6]:port or hostname:port. Host and port are both mandatory, the port is 1 to 65535 in plain
// decimal. A hostname consists of letters, digits, '-', '_' and '.', begins and ends with a letter, digit or '_', and has no empty label; it is
// returned as it was written. IPv6 zones, user info and names that look like a misspelt IPv4 address are errors.
func ParseAuthority(s string) (Authority, error) {
	colon := strings.LastIndexByte(s, ':')
	if colon < 0 {
		return Authority{}, fmt.Errorf("authority %.300q has no port", s)
	}
	host, digits := s[:colon], s[colon+1:]
	port, ok := parsePort(digits)
	if !ok {
		return Authority{}, fmt.Errorf("authority %.300q has no port between 1 and 65535", s)
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		ip, err := netip.ParseAddr(inner)
		if !ok || err != nil || !ip.Is6() || ip.Zone() != "" {
			return Authority{}, fmt.Errorf("authority %.300q has no IPv6 address in its brackets", s)
		}
		return Authority{IP: ip, Port: port}, nil
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.Is4() {
		return Authority{IP: ip, Port: port}, nil
	}
	if !validHostname(host) {
		return Authority{}, fmt.Errorf("authority %.300q names neither an address nor a host", s)
	}
	return Authority{Hostname: host, Port: port}, nil
}

func parsePort(s string) (uint16, bool) {
	if len(s) == 0 || len(s) > 5 || s[0] == '0' {
		return 0, false
	}
	n := 0
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return uint16(n), n <= 65535
}

func validHostname(s string) bool {
	if len(s) == 0 || len(s) > maxHostname {
		return false
	}
	label, numeric := 0, true // length of the current label, and whether it has digits only
	for i := 0; i <= len(s); i++ {
		if i == len(s) || s[i] == '.' {
			if label == 0 || label > 63 || s[i-1] == '-' {
				return false
			}
			if i < len(s) {
				label, numeric = 0, true
			}
			continue
		}
		c := s[i]
		switch {
		case c >= '0' && c <= '9':
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_':
			numeric = false
		case c == '-' && label > 0:
			numeric = false
		default:
			return false
		}
		label++
	}
	return !numeric // a last label of digits only is an address gone wrong, as for URLs
}
