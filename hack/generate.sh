#!/usr/bin/env bash
# Writes every generated file anew: deepcopy functions, CRDs, wire types. Same input, same output.
set -euo pipefail
cd "$(dirname "$0")/.."
export GOTOOLCHAIN=auto
controller_gen=${ISTHMUS_CACHE:-$PWD/.cache}/bin/controller-gen

"$controller_gen" object:headerFile=hack/boilerplate.go.txt paths=./apis/...
"$controller_gen" crd paths=./apis/... output:crd:dir=config/crd/bases
go generate ./internal/xds/pb
