#!/usr/bin/env bash
# Builds what the rows l7-* compare the gateway with, from Go modules into the cache: Traefik and Caddy, of the versions
# that are named here and in caddy/go.mod. HAProxy comes from the distribution's package, if that is installed. Takes about ten minutes the first time.
set -euo pipefail
cd "$(dirname "$0")"
export GOTOOLCHAIN=auto CGO_ENABLED=0
cache=${ISTHMUS_CACHE:-$(cd ../../.. && pwd)/.cache}
mkdir -p "$cache/build"

echo "build caddy"
go build -C caddy -trimpath -ldflags '-s -w' -o "$cache/build/caddy" github.com/caddyserver/caddy/v2/cmd/caddy

# Traefik is built in a copy of its module, to which two things are added that are no part of it: the dashboard, which it embeds and which is built from other
# sources, and the folder by which its go.mod replaces a module. What finds 200 providers of DNS, to prove names to ACME, finds none here: their modules are not all to be had, and
# no row asks for a certificate.
echo "build traefik"
version=v3.7.13
module=$(go mod download -json "github.com/traefik/traefik/v3@$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
copy=$(mktemp -d)
trap 'chmod -R u+w "$copy"; rm -rf "$copy"' EXIT
cp -r "$module/." "$copy"
chmod -R u+w "$copy"
mkdir -p "$copy/webui/static" "$copy/pkg/config/dynamic/ext"
echo '<p>The dashboard is not part of this build.</p>' >"$copy/webui/static/index.html"
cp traefik/ext/* "$copy/pkg/config/dynamic/ext/"
# A fork that its go.mod names is not served by the module proxy; the version before it is, and differs in what no row uses (basic authentication).
(cd "$copy" && go mod edit -replace github.com/abbot/go-http-auth=github.com/containous/go-http-auth@v0.4.1-0.20200324110947-a37a7636d23e)
lego=$(cd "$copy" && go mod download -json github.com/go-acme/lego/v5 | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
cp -r "$lego" "$copy/lego"
chmod -R u+w "$copy/lego"
sed -i -e '/^\t"github.com\/go-acme\/lego\/v5\/providers\/dns\/[a-z0-9]*"$/d' -e '/^\tcase "/d' -e '/^\t\treturn [a-z0-9]*\.NewDNSProvider()$/d' "$copy/lego/providers/dns/zz_gen_dns_providers.go"
(cd "$copy" && go mod edit -replace github.com/go-acme/lego/v5=./lego)
go build -C "$copy" -mod=mod -trimpath -ldflags '-s -w' -o "$cache/build/traefik" ./cmd/traefik ||
	echo "traefik could not be built, see above: rows that need it will say so, and not pass"

command -v haproxy >/dev/null || echo "haproxy is not installed (Debian: apt-get install haproxy): rows that need it will say so, and not pass"
