#!/usr/bin/env bash
# Runs the Gateway API's suite against Isthmus on a lab cluster of its own, and takes the cluster down again. Needs root, and what `make lab-tools build` builds.
#   run.sh [--report] [--runs N] [--summary FILE] [--clusters 1|2] [ARGUMENT...]
# --report writes the report of the claimed profiles to conformance/reports. --runs repeats it on the same cluster and sums up each run; --summary writes that
# to a file, as a table. There are two clusters, as our own tests of routes across clusters need a second one: with --clusters 1 they are left out, by name. A run for the report has one. Arguments go to the
# test program, such as -test.run TestGatewayAPI/HTTPRouteWeight, -part 1/4, or -run-test NAME for a test that is left out.
set -euo pipefail
cd "$(dirname "$0")/.."
export GOTOOLCHAIN=auto
cache=${ISTHMUS_CACHE:-$PWD/.cache}
export ISTHMUS_CACHE=$cache
out=$cache/build
lab=$out/lab
name=conformance

runs=1
report=
summary=
clusters=2
while [ $# -gt 0 ]; do
	case $1 in
	--report) report=1 ;;
	--clusters) clusters=$2; shift ;;
	--runs) runs=$2; shift ;;
	--summary) summary=$(realpath -m "$2"); shift ;;
	*) break ;;
	esac
	shift
done
case $clusters in 1 | 2) ;; *) echo "run.sh: --clusters is 1 or 2" >&2; exit 2 ;; esac
[ -z "$report" ] || clusters=1

echo "building the suite, and the applications that its manifests name"
go test -C conformance -c -tags conformance -vet=off -o "$out/conformance.test" .
CGO_ENABLED=0 go build -C conformance -o "$out/echo-basic" sigs.k8s.io/gateway-api-conformance-images/echo-basic
advanced=$out/echo-advanced
for program in server client; do CGO_ENABLED=0 go build -C conformance/echo -ldflags '-s -w' -o "$advanced/$program" "istio.io/istio/pkg/test/echo/cmd/$program"; done
[ -e "$advanced/cert.pem" ] || (cd "$advanced" && GOFLAGS= go run "$(go env GOROOT)/src/crypto/tls/generate_cert.go" -host echo -ecdsa-curve P256)
(cd conformance && "$out/conformance.test" -test.run 'TestSelection|TestFeatures|TestPart|TestOwn')

scratch=$(mktemp -d)
kubeconfig=$scratch/east
log=$scratch/log
cleanup() {
	status=$?
	rm -rf "$scratch"
	"$lab" down --name "$name" >/dev/null || status=1
	exit "$status"
}
trap cleanup EXIT INT TERM

on() { "$lab" kubectl --name "$name" "$@"; }

# install_on CLUSTER FOLDER applies the product and waits until it is in use.
install_on() {
	on "$1" apply --server-side -k "$2" >/dev/null
	on "$1" -n isthmus-system wait --for=condition=Available deployment/isthmus-controller --timeout=3m
	for daemon in isthmus-agent isthmus-nodeproxy; do on "$1" -n isthmus-system rollout status "daemonset/$daemon" --timeout=3m; done
}

# join_west has a second cluster, west, share the first one's root, and the first one read it. Policies need their kind, which is Istio's.
join_west() {
	local istio token
	on west create namespace isthmus-system >/dev/null
	{
		printf 'apiVersion: v1\nkind: Secret\nmetadata: {name: cacerts, namespace: isthmus-system}\ndata:\n'
		on east -n isthmus-system get secret isthmus-ca -o go-template='{{range $key, $value := .data}}  {{$key}}: {{$value}}{{"\n"}}{{end}}'
	} | on west apply --server-side -f - >/dev/null
	istio=$(go list -C conformance/echo -m -f '{{.Dir}}' istio.io/istio)
	awk -v RS='---\n' '/\n  name: authorizationpolicies.security.istio.io\n/' "$istio/manifests/charts/base/files/crd-all.gen.yaml" | on west apply --server-side -f - >/dev/null
	mkdir "$scratch/overlay"
	sed -e "s|\.\./\.\./default|$(realpath --relative-to="$scratch/overlay" config/default)|" -e 's/: east$/: west/' config/samples/overlay-cluster/kustomization.yaml >"$scratch/overlay/kustomization.yaml"
	install_on west "$scratch/overlay"
	"$lab" kubeconfig --name "$name" --internal west >"$scratch/west"
	token=$(on west -n isthmus-system create token isthmus-reader --duration 24h)
	{
		printf 'apiVersion: v1\nkind: Secret\nmetadata: {name: isthmus-remote-west, namespace: isthmus-system, labels: {istio/multiCluster: "true"}}\nstringData:\n  west: |\n'
		sed -e '/client-certificate-data:/d' -e "s|client-key-data:.*|token: $token|" -e 's/^/    /' "$scratch/west"
	} | on east apply --server-side -f - >/dev/null
	on east wait --for=create remotecluster/west --timeout=1m
	on east wait --for=condition=Ready remotecluster/west --timeout=1m
}

"$lab" up --name "$name" --clusters "$clusters"
images=()
for program in controller gateway nodeproxy agent; do images+=("isthmus.dev/$program:dev=$out/$program"); done
suite=$(go list -C conformance -m -f '{{.Dir}}' sigs.k8s.io/gateway-api/conformance)
while read -r image; do images+=("$image=$out/echo-basic"); done < <(grep -rhoE '[^ ]+/echo-basic:[^ ]+' "$suite" --include='*.yaml' | sort -u)
advanced_images=() # of clients in the mesh, which are in the first cluster
while read -r image; do
	advanced_images+=("$image=$advanced/server,$advanced/client,$advanced/cert.pem:/cert.crt,$advanced/key.pem:/cert.key")
done < <(grep -rhoE '[^ ]+/echo-advanced:[^ ]+' "$suite" --include='*.yaml' | sort -u)
"$lab" load --name "$name" "${images[@]}"
"$lab" load --name "$name" --cluster east "${advanced_images[@]}"
install_on east "$PWD/config/default"
"$lab" kubeconfig --name "$name" --internal east >"$kubeconfig"
if [ "$clusters" = 2 ]; then
	began=$SECONDS
	join_west
	echo "the second cluster has joined the first, $((SECONDS - began)) s"
	others=(-remote-kubeconfig "$scratch/west")
else
	others=(-one-cluster)
fi

version=$(git describe --tags --always --dirty 2>/dev/null || echo unknown)
arguments=("${others[@]}" "$@")
if [ -n "$report" ]; then
	arguments+=(-report-output "$PWD/conformance/reports/standard-v1.7.0-default-report.yaml" -organization isthmus-mesh -project isthmus
		-url https://github.com/isthmus-mesh/isthmus -version "$version" -contact https://github.com/isthmus-mesh/isthmus/issues)
	mkdir -p conformance/reports
fi

# GatewayStaticAddresses asks for an address that can be had, one of the cluster's pool (lab/doc.go) that would be given last, and for one that cannot, which is nobody's (RFC 5737).
addresses=(-usable-address 10.89.101.250 -unusable-address 192.0.2.1)

# The Gateways' addresses are reached from the lab's client machine. What the suite made at its beginning stays: the cluster goes anyway, and the suite gives its namespaces half
# a minute to go, which gateways that drain may exceed.
cd conformance
failed=0
summaries=()
rows=()
for run in $(seq "$runs"); do
	began=$SECONDS
	"$lab" exec --name "$name" -- env KUBECONFIG="$kubeconfig" "$out/conformance.test" -test.v -test.timeout 40m -test.run TestGatewayAPI -cleanup-base-resources=false \
		-namespace-labels istio.io/dataplane-mode=ambient,isthmus.dev/eastwest-gateways=true "${addresses[@]}" "${arguments[@]}" 2>&1 | tee "$log" || failed=1
	tally=$(sed -n 's/^tally: //p' "$log")
	took=$((SECONDS - began))
	summaries+=("run $run of $runs: $tally, $took s")
	# A run that ended before its tally has no figures.
	read -r suite own < <(sed -nE 's/^tally: of the suite ([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped(; of our own ([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped)?$/\1|\2|\3 \5|\6|\7/p' "$log") || { suite='?|?|?' own='?|?|?'; }
	[ "$own" != '||' ] || own='–|–|–' # left out: a run for the report
	rows+=("| $run | ${suite//|/ | } | ${own//|/ | } | $took |")
done
printf '%s\n' "${summaries[@]}"
if [ -n "$summary" ]; then
	mkdir -p "$(dirname "$summary")"
	{
		printf '# Runs of the Gateway API suite, one after another on one cluster\n\n'
		printf 'Written by `conformance/run.sh`, of %s. Arguments of the test program: %s. All of the suite are 170 tests.\n\n' "$version" "${*:-none}"
		printf '| Run | Suite: passed | failed | skipped | Own tests: passed | failed | skipped | Seconds |\n|---|---|---|---|---|---|---|---|\n'
		printf '%s\n' "${rows[@]}"
	} >"$summary"
fi
exit "$failed"
