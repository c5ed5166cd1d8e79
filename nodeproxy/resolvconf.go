// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"net/netip"
	"os"
	"strings"
)

// Nameservers reads the servers of a resolv.conf. The result is empty if there is none that can be read.
func Nameservers(path string) []netip.AddrPort {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return parseNameservers(string(data))
}

func parseNameservers(conf string) []netip.AddrPort {
	var out []netip.AddrPort
	for line := range strings.Lines(conf) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if addr, err := netip.ParseAddr(fields[1]); err == nil {
			out = append(out, netip.AddrPortFrom(addr.Unmap(), 53))
		}
	}
	return out
}
