#!/usr/bin/env bash
# Runs the Gateway API's suite against Isthmus on a lab cluster of its own, and takes the cluster down again. Needs root, and what `make lab-tools build` builds.
# Arguments go to the test program, such as -test.run TestGatewayAPI/HTTPRouteWeight, or -run-test NAME for a test that is left out.
set -euo pipefail
cd "$(dirname "$0")/.."
export GOTOOLCHAIN=auto
cache=${ISTHMUS_CACHE:-$PWD/.cache}
export ISTHMUS_CACHE=$cache
out=$cache/build
lab=$out/lab
name=conformance

echo "building the suite, and the application that its manifests name"
go test -C conformance -c -tags conformance -vet=off -o "$out/conformance.test" .
CGO_ENABLED=0 go build -C conformance -o "$out/echo-basic" sigs.k8s.io/gateway-api-conformance-images/echo-basic

kubeconfig=$(mktemp)
cleanup() {
	status=$?
	rm -f "$kubeconfig"
	"$lab" down --name "$name" >/dev/null || status=1
	exit "$status"
}
trap cleanup EXIT INT TERM

"$lab" up --name "$name" --clusters 1
images=()
for program in controller gateway nodeproxy agent; do images+=("isthmus.dev/$program:dev=$out/$program"); done
suite=$(go list -C conformance -m -f '{{.Dir}}' sigs.k8s.io/gateway-api/conformance)
while read -r image; do images+=("$image=$out/echo-basic"); done < <(grep -rhoE '[^ ]+/echo-basic:[^ ]+' "$suite" --include='*.yaml' | sort -u)
"$lab" load --name "$name" "${images[@]}"
"$lab" kubectl --name "$name" east apply --server-side -k "$PWD/config/default" >/dev/null
"$lab" kubectl --name "$name" east -n isthmus-system wait --for=condition=Available deployment/isthmus-controller --timeout=3m
"$lab" kubeconfig --name "$name" --internal east >"$kubeconfig"

# The Gateways' addresses are reached from the lab's client machine.
cd conformance
"$lab" exec --name "$name" -- env KUBECONFIG="$kubeconfig" "$out/conformance.test" -test.v -test.timeout 40m "$@"
