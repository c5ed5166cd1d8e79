#!/usr/bin/env bash
# Runs every fuzz target of the module for the given time, one after the other.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-30s}
found=0
while IFS=: read -r file target; do
  found=$((found + 1))
  echo "fuzz $target in $(dirname "$file") for $time"
  go test -run '^$' -fuzzminimizetime 1x -fuzz "^${target}\$" -fuzztime "$time" "./$(dirname "$file")"
done < <(git ls-files '*_test.go' | xargs grep -oE '^func Fuzz[A-Za-z0-9_]+' | sed 's/func //')
echo "$found fuzz targets"
