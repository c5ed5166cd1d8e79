// SPDX-License-Identifier: Apache-2.0

package nodeproxy

import (
	"io"
	"net/netip"
	"os"
	"strings"
)

const (
	// maxResolvConf bounds a resolv.conf, in bytes: one that a kubelet writes has less than 4 KiB (Kubernetes bounds the search list to 2048 characters).
	maxResolvConf = 64 << 10
	// maxNameservers is how many servers are used: MAXNS of resolv.conf(5), and as many as a kubelet writes. They are asked in turn, so that each one more is a wait more.
	maxNameservers = 3
)

// Nameservers reads the servers of a resolv.conf, the first three as any resolver does. What glibc and musl pass over is none: an address with a port or a name behind it, as other programs
// have it, is asked by no program on that host either. Those of a link are left out, as it is not the pods' link. The result is empty if there is none that can be read, or if the file is larger
// than any is: a line that the bound cuts could name another server.
func Nameservers(path string) []netip.AddrPort {
	file, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxResolvConf+1))
	if err != nil || len(data) > maxResolvConf {
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
		addr, err := netip.ParseAddr(fields[1])
		addr = addr.Unmap().WithZone("")
		if err != nil || addr.Is6() && addr.IsLinkLocalUnicast() {
			continue
		}
		if out = append(out, netip.AddrPortFrom(addr, 53)); len(out) == maxNameservers {
			break
		}
	}
	return out
}
