// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/isthmus-mesh/isthmus/apis/v1alpha1"
)

// maxProblem is how much of a foreign text is shown, in bytes.
const maxProblem = 512

// explainUnreachable names the reason and gives a message without credentials.
func explainUnreachable(host string, err error) (reason, message string) {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var hostname x509.HostnameError
	var refusal tls.AlertError
	problem, foreign := isNotKubernetes(err)
	switch {
	case foreign:
		return v1alpha1.ReasonNotKubernetes, host + " " + problem
	case errors.Is(err, errTooMuch):
		return v1alpha1.ReasonTooLarge, fmt.Sprintf("%s answers a question with more than the %d MiB that are read of one", host, maxPlain>>20)
	case errors.As(err, &refusal) && aboutUs(refusal):
		return v1alpha1.ReasonUnauthorized, host + " does not accept the kubeconfig's client certificate: " + refusal.Error()
	case apierrors.IsUnauthorized(err):
		return v1alpha1.ReasonUnauthorized, "the API server does not accept the kubeconfig's credentials"
	case apierrors.IsForbidden(err):
		return v1alpha1.ReasonForbidden, "the kubeconfig's user lacks a right (see config/rbac/reader.yaml for those needed): " + excerpt(err.Error(), maxProblem)
	case errors.As(err, &unknown):
		return v1alpha1.ReasonUntrusted, host + " proves itself by a certificate that certificate-authority-data does not vouch for: " + excerpt(unknown.Error(), maxProblem)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return v1alpha1.ReasonUntrusted, host + " proves itself by a certificate that is not valid by our clock: " + excerpt(invalid.Error(), maxProblem)
	case errors.As(err, &invalid):
		return v1alpha1.ReasonUntrusted, host + " proves itself by a certificate that is not valid: " + excerpt(invalid.Error(), maxProblem)
	case errors.As(err, &hostname):
		return v1alpha1.ReasonUntrusted, host + " proves itself by a certificate for another name: " + excerpt(hostname.Error(), maxProblem)
	case unanswered(err):
		return v1alpha1.ReasonUnreachable, fmt.Sprintf("%s does not answer within %s", host, probeTimeout)
	}
	var said apierrors.APIStatus
	if errors.As(err, &said) {
		switch code := int(said.Status().Code); code {
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
			return v1alpha1.ReasonOverloaded, fmt.Sprintf("%s refuses to answer for now: %s", host, codeText(code))
		case http.StatusNotFound:
			return v1alpha1.ReasonNotKubernetes, host + " does not know what every API server has: " + excerpt(err.Error(), maxProblem)
		default:
			return v1alpha1.ReasonUnreachable, fmt.Sprintf("%s answers %s to what every API server is asked", host, codeText(code))
		}
	}
	return v1alpha1.ReasonUnreachable, excerpt(err.Error(), maxProblem)
}

// unanswered says whether nothing came in time: neither a connection, nor a proof, nor an answer.
func unanswered(err error) bool {
	var late net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &late) && late.Timeout()
}

// aboutUs says whether an alert of TLS refuses our certificate, or the lack of one (RFC 8446 section 6.2).
func aboutUs(a tls.AlertError) bool {
	switch a {
	case 42, 43, 44, 45, 46, 48, 49, 116: // bad, unsupported, revoked, expired or unknown certificate, unknown CA, access denied, certificate required
		return true
	}
	return false
}

// explainLoss is explainUnreachable with what the kubeconfig says of its own credentials.
func (k *Kubeconfig) explainLoss(err error, now time.Time) (reason, message string) {
	reason, message = explainUnreachable(k.Config.Host, err)
	if reason == v1alpha1.ReasonUnauthorized {
		switch {
		case !k.Expiry.IsZero() && !now.Before(k.Expiry):
			message += ": they ended at " + k.Expiry.UTC().Format(time.RFC3339)
		case now.Before(k.Begins):
			message += ": they count not before " + k.Begins.UTC().Format(time.RFC3339)
		}
	}
	return reason, message
}

// explainSkew is about a server's clock that is ahead of ours, or behind if ahead is negative.
func explainSkew(ahead time.Duration) string {
	direction := "ahead of"
	if ahead < 0 {
		direction = "behind"
	}
	// Rounded, so that it does not change with every question.
	return fmt.Sprintf("the API server's clock is about %s %s ours: certificates and tokens may seem expired, or not yet valid, on one side",
		ahead.Abs().Round(clockSlack), direction)
}
