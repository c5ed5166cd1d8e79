// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
)

const (
	// endsSoonMost and endsSoonPart say how long before the end of the issuing certificate, or of one above it, that is told: 30 days, or a quarter of its life if that is less. cert-manager renews
	// at a third.
	endsSoonMost = 30 * 24 * time.Hour
	endsSoonPart = 4
	// endsSoonAgain is how often: Events are forgotten after an hour or so.
	endsSoonAgain = 24 * time.Hour
)

// newIssuerEnd is the metric of when the authority ends: no certificate is issued beyond it, and none after it.
func newIssuerEnd() prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "isthmus_ca_issuer_end_timestamp_seconds",
		Help: "When the issuing certificate, or one above it, ends, and with it all that is issued.",
	})
}

// warn tells in time that the authority ends, and says when to look again.
func (a *Authority) warn(now time.Time) time.Time {
	first := a.Signer().EndsFirst()
	if a.warned.of == nil || !a.warned.of.Equal(first) {
		a.warned.of, a.warned.at = first, time.Time{}
	}
	if soon := first.NotAfter.Add(-min(endsSoonMost, first.NotAfter.Sub(first.NotBefore)/endsSoonPart)); now.Before(soon) {
		return soon
	}
	if again := a.warned.at.Add(endsSoonAgain); now.Before(again) {
		return again
	}
	a.warned.at = now
	a.log.Info("the certificate authority ends soon", "secret", a.name, "certificate", first.Subject.String(), "ends", first.NotAfter)
	a.tell(a.name, corev1.EventTypeWarning, "EndsSoon", "%s", note("The certificate of %q (serial number %x) ends at %s. What is issued ends before it, and with it all connections of the mesh do: renew it in this Secret",
		first.Subject, first.SerialNumber, first.NotAfter.UTC().Format(time.RFC3339)))
	return now.Add(endsSoonAgain)
}
