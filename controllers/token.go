// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// maxToken bounds a token, in bytes. Bound tokens of service accounts have about 1200.
	maxToken = 8 << 10
	// tokenSkew is how far a caller's clock, or the API server's, may be off.
	tokenSkew = time.Minute
)

// audiences are one name or a list of them (RFC 7519 section 4.1.3).
type audiences []string

// UnmarshalJSON takes both forms.
func (a *audiences) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*a = audiences{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(a))
}

// presentable looks at a token before the API server is asked: what cannot be a live token of a service account, for us, is refused for the price of
// reading it. It proves nothing: the signature is for the API server to check.
func presentable(token string, now time.Time) error {
	if len(token) > maxToken {
		return fmt.Errorf("the caller's token has %d bytes, more than the %d of any token of a service account", len(token), maxToken)
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 || parts[0] == "" || parts[2] == "" {
		return errors.New("the caller's token is no JWT")
	}
	body, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return errors.New("the caller's token is no JWT: its claims are not base64")
	}
	var claims struct {
		Subject  string    `json:"sub"`
		Audience audiences `json:"aud"`
		Expires  float64   `json:"exp"`
	}
	if json.Unmarshal(body, &claims) != nil {
		return errors.New("the caller's token is no JWT: its claims are not JSON")
	}
	switch {
	case !strings.HasPrefix(claims.Subject, accountPrefix):
		return fmt.Errorf("the caller's token is of %.80q, which is no service account", claims.Subject)
	case !slices.Contains(claims.Audience, tokenAudience):
		return fmt.Errorf("the caller's token is not for the audience %s", tokenAudience)
	case claims.Expires == 0:
		return errors.New("the caller's token never expires: bound tokens do")
	case claims.Expires < float64(now.Add(-tokenSkew).Unix()):
		return fmt.Errorf("the caller's token expired at %s", time.Unix(int64(claims.Expires), 0).UTC().Format(time.RFC3339))
	}
	return nil
}
