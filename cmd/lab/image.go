// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/lab"
)

func imageCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "image FILE REF=BINARY[,BINARY...]",
		Short: "Write an image from static binaries as an OCI archive",
		Long: `image writes what load would put into the nodes into a file instead, for clusters other than the lab's: skopeo copies it
to a registry (oci-archive:FILE), containerd and kind load it as it is. It needs neither root nor a lab.`,
		Example: "  lab image gateway.tar isthmus.dev/gateway:dev=bin/gateway",
		Args:    cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			image, err := lab.ParseImage(args[1])
			if err != nil {
				return err
			}
			if err := os.MkdirAll(filepath.Dir(args[0]), 0o755); err != nil {
				return err
			}
			file, err := os.Create(args[0])
			if err != nil {
				return err
			}
			err = image.Write(file)
			if closed := file.Close(); err == nil {
				err = closed
			}
			if err != nil {
				_ = os.Remove(args[0])
				return fmt.Errorf("image %s: %w", image.Ref, err)
			}
			return nil
		},
	}
}
