// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
)

// printed is an address as /proc/net/tcp has it: its words as the machine has them in memory.
func printed(a netip.AddrPort) string {
	text, raw := "", a.Addr().AsSlice()
	for ; len(raw) > 0; raw = raw[4:] {
		text += fmt.Sprintf("%08X", binary.NativeEndian.Uint32(raw))
	}
	return fmt.Sprintf("%s:%04X", text, a.Port())
}

// FuzzParseConnection has the lines that the kernel prints read back as what they are, and no other line panic or be taken for a connection that has no two ends.
func FuzzParseConnection(f *testing.F) {
	f.Add("0: 0100007F:1F90 0200007F:C350 01 00000000:00000000", []byte{10, 0, 0, 7}, uint16(8080))
	f.Add("sl local_address rem_address st", []byte{0, 0, 0, 0}, uint16(0))
	f.Add("0: : : 01", []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 7}, uint16(65535))
	f.Add("0: 0100007F:1F90 0100007F:10000 01", []byte{0xfd, 15: 7}, uint16(1))
	f.Add("0: 0100007F0100007F:1 01:1 01", []byte{1}, uint16(1))
	f.Fuzz(func(t *testing.T, line string, raw []byte, port uint16) {
		if c, ok := parseConnection(line); ok && (!c.local.IsValid() || !c.remote.IsValid() || c.local.Addr().Is4In6() || c.remote.Addr().Is4In6()) {
			t.Errorf("%q reads %v", line, c)
		}
		addr, ok := netip.AddrFromSlice(raw)
		if !ok {
			return
		}
		for _, state := range []string{"01", "02", "03", "04", "05", "06", "07", "08", "09", "0A", "0B", "0C"} {
			local, remote := netip.AddrPortFrom(addr, port), netip.AddrPortFrom(addr.Next(), ^port)
			if !remote.IsValid() {
				return // there is no address after the last one
			}
			got, ok := parseConnection(fmt.Sprintf("  12: %s %s %s 00000000:00000000 00:00000000 00000000", printed(local), printed(remote), state))
			if open := state != "06" && state != "07" && state != "0A"; ok != open {
				t.Fatalf("state %s: open is %v", state, ok)
			}
			want := connection{netip.AddrPortFrom(addr.Unmap(), port), netip.AddrPortFrom(addr.Next().Unmap(), ^port)}
			if ok && got != want {
				t.Errorf("%v reads %v", want, got)
			}
		}
	})
}
