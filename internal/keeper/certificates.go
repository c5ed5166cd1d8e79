// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/mtls"
)

// Certificates has a Source keep its certificates in dir, over a restart of the process. Without a directory it keeps none. The error is OpenVault's: the
// directory is not good enough, and o is as it was. It works without.
func Certificates(o *mtls.SourceOptions, dir string, registry prometheus.Registerer) error {
	restored := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "isthmus_kept_certificates_total", Help: "Certificates of an earlier process that were found, and whether they could be used."}, []string{"used"})
	registry.MustRegister(restored)
	if dir == "" {
		return nil
	}
	vault, err := mtls.OpenVault(dir)
	if err != nil {
		return err
	}
	o.Vault = vault
	o.OnKept = func(err error) { restored.WithLabelValues(strconv.FormatBool(err == nil)).Inc() }
	return nil
}
