#!/usr/bin/env bash
# Writes every generated file anew: deepcopy functions, CRDs, the copies of Gateway API's CRDs, and the wire's messages.
# Needs controller-gen in $ISTHMUS_CACHE/bin (make generate builds it). Running it twice changes nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
export GOTOOLCHAIN=auto
bin=${ISTHMUS_CACHE:-$PWD/.cache}/bin

"$bin/controller-gen" object:headerFile=hack/boilerplate.go.txt crd paths=./apis/... output:crd:dir=config/crd/bases

# The standard channel of the Gateway API version that go.mod asks for.
module=$(go list -m -f '{{.Dir}}' sigs.k8s.io/gateway-api)
version=$(go list -m -f '{{.Version}}' sigs.k8s.io/gateway-api)
target=config/crd/gateway-api
rm -f "$target"/*.yaml
{
	echo "# Written by hack/generate.sh: the standard channel of sigs.k8s.io/gateway-api $version (Apache-2.0), unchanged."
	echo "apiVersion: kustomize.config.k8s.io/v1beta1"
	echo "kind: Kustomization"
	echo "resources:"
	for file in "$module"/config/crd/standard/*.yaml; do
		install -m 0644 "$file" "$target/"
		echo "- $(basename "$file")"
	done
} >"$target/kustomization.yaml"

go generate ./internal/xds/pb
