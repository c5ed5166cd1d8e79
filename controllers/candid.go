// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"
)

// maxHeaders bounds the headers of an answer, in bytes. An API server's take about 1 KiB.
const maxHeaders = 64 << 10

// notKubernetes says what was answered that no API server answers: something else is at the address.
type notKubernetes struct{ problem string }

func (e *notKubernetes) Error() string { return e.problem }

// candid is a transport that gives answers of API servers only. A page that asks for a login, or a way elsewhere, would be read as an
// empty or broken world otherwise.
type candid struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (c candid) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := c.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if problem := implausible(answer); problem != "" {
		_ = answer.Body.Close() // nobody reads it
		return nil, &notKubernetes{problem}
	}
	return answer, nil
}

// implausible says why an answer is not an API server's; "" if it may be. What the other side wrote is not repeated but for a media type.
func implausible(answer *http.Response) string {
	code := answer.StatusCode
	switch {
	case code >= 300 && code < 400:
		return fmt.Sprintf("sends us elsewhere (%s), where we do not go: an API server does not do that", codeText(code))
	case code == http.StatusOK:
		said := answer.Header.Get("Content-Type")
		kind, _, err := mime.ParseMediaType(said)
		if said != "" && (err != nil || !machineReadable(kind)) {
			return fmt.Sprintf("answers with %s, which an API server does not do", excerpt(said, 64))
		}
	}
	return ""
}

func machineReadable(kind string) bool {
	return kind == "application/json" || strings.HasPrefix(kind, "application/vnd.kubernetes.") || strings.HasPrefix(kind, "application/cbor")
}

// errNoVersion and errNoIdentity are about questions that every API server answers.
var (
	errNoVersion  error = &notKubernetes{"does not tell a version of Kubernetes when it is asked for it"}
	errNoIdentity error = &notKubernetes{"does not tell the UID of its namespace kube-system when it is asked for it"}
)

// isNotKubernetes gives the problem, if an error is about one.
func isNotKubernetes(err error) (problem string, ok bool) {
	var not *notKubernetes
	if !errors.As(err, &not) {
		return "", false
	}
	return not.problem, true
}

// codeText names a code of HTTP by its standard text, not by that which was sent.
func codeText(code int) string {
	return strings.TrimSpace(fmt.Sprint(code, " ", http.StatusText(code)))
}

// excerpt is the beginning of a foreign text, in bytes, fit to be shown: of printable ASCII.
func excerpt(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
	if len(text) > most {
		return text[:most] + "…"
	}
	return text
}
