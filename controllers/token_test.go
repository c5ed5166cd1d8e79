// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"
)

// forged is a token that nobody signed.
func forged(claims string) string {
	part := base64.RawURLEncoding.EncodeToString
	return part([]byte(`{"alg":"RS256"}`)) + "." + part([]byte(claims)) + "." + part([]byte("signature"))
}

func TestPresentable(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	claims := func(sub, aud string, exp int64) string {
		return fmt.Sprintf(`{"sub":%q,"aud":%s,"exp":%d}`, sub, aud, exp)
	}
	const account = "system:serviceaccount:demo:web"
	for name, c := range map[string]struct{ token, refusal string }{
		"good":              {forged(claims(account, `["istio-ca"]`, now.Unix()+60)), ""},
		"one of audiences":  {forged(claims(account, `["other","istio-ca"]`, now.Unix()+60)), ""},
		"audience alone":    {forged(claims(account, `"istio-ca"`, now.Unix()+60)), ""},
		"expired, or fast":  {forged(claims(account, `["istio-ca"]`, now.Unix()-59)), ""},
		"expired":           {forged(claims(account, `["istio-ca"]`, now.Unix()-61)), "expired at 2027-01-15T07:58:59Z"},
		"for another":       {forged(claims(account, `["other"]`, now.Unix()+60)), "not for the audience istio-ca"},
		"for nobody":        {forged(claims(account, `[]`, now.Unix()+60)), "not for the audience"},
		"of a user":         {forged(claims("alice", `["istio-ca"]`, now.Unix()+60)), `of "alice"`},
		"a long name":       {forged(claims(strings.Repeat("x", 5000), `["istio-ca"]`, now.Unix()+60)), strings.Repeat("x", 80) + `"`},
		"for ever":          {forged(`{"sub":"` + account + `","aud":"istio-ca"}`), "never expires"},
		"audience a number": {forged(`{"sub":"` + account + `","aud":5,"exp":1}`), "not JSON"},
		"nothing":           {"", "no JWT"},
		"dots":              {"..", "no JWT"},
		"unsigned":          {forged("{}")[:20] + ".", "no JWT"},
		"not base64":        {"a.*.c", "not base64"},
		"not JSON":          {forged("{"), "not JSON"},
		"long":              {forged(claims(account, `["istio-ca"]`, now.Unix()+60)) + strings.Repeat("a", maxToken), "more than the"},
	} {
		err := presentable(c.token, now)
		if c.refusal == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), c.refusal) {
			t.Errorf("%s: %v, want %q", name, err, c.refusal)
		}
	}
}

// FuzzPresentable shows whatever a caller may.
func FuzzPresentable(f *testing.F) {
	f.Add(forged(`{"sub":"system:serviceaccount:demo:web","aud":["istio-ca"],"exp":1800000000}`))
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, token string) {
		if err := presentable(token, time.Unix(0, 0)); err != nil && len(err.Error()) > 500 {
			t.Errorf("refused with %d bytes", len(err.Error()))
		}
	})
}
