// SPDX-License-Identifier: Apache-2.0

package http

import (
	"math"
	"math/big"
	"regexp"
	"testing"
	"time"
)

// FuzzGRPCTimeout: exactly what the specification of gRPC over HTTP/2 gives as the form of grpc-timeout is a limit, and it is the one that is said, or the longest that there is.
func FuzzGRPCTimeout(f *testing.F) {
	for _, seed := range []string{
		"", "m", "0n", "1n", "20m", "5u", "3M", "2S", "1H", "2562047H", "2562048H", "99999999H", "99999999M", "00000001S", "000000001S", "123456789m", "+1S", "-1m", "1_0S", "0x1S", "1.5S", " 1S", "1S ", "1s", "1SS", "S1", "١S",
	} {
		f.Add(seed)
	}
	form := regexp.MustCompile(`\A([0-9]{1,8})([HMSmun])\z`)
	nanoseconds := map[string]int64{"H": 3600e9, "M": 60e9, "S": 1e9, "m": 1e6, "u": 1e3, "n": 1}
	f.Fuzz(func(t *testing.T, text string) {
		got, ok := grpcTimeout(text)
		said := form.FindStringSubmatch(text)
		if said == nil {
			if ok || got != 0 {
				t.Errorf("%q, which is none, is %s", text, got)
			}
			return
		}
		want, _ := new(big.Int).SetString(said[1], 10)
		want.Mul(want, big.NewInt(nanoseconds[said[2]]))
		if most := big.NewInt(math.MaxInt64); want.Cmp(most) > 0 {
			want = most
		}
		if !ok || got != time.Duration(want.Int64()) {
			t.Errorf("%q is %s, %v, want %s", text, got, ok, time.Duration(want.Int64()))
		}
	})
}
