// SPDX-License-Identifier: Apache-2.0

// Package pb holds the messages of the discovery wire and of the certificate service, generated from the files under
// proto/. Nothing here is written by hand but this file.
package pb

//go:generate go -C ../../../hack/protogen run . -proto ../../proto -out ../.. -module github.com/isthmus-mesh/isthmus
