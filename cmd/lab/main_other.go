// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package main

import (
	"fmt"
	"os"
	"runtime"
)

func main() {
	fmt.Fprintf(os.Stderr, "lab: needs Linux (network and mount namespaces, overlayfs, nftables); this is %s\n", runtime.GOOS)
	os.Exit(1)
}
