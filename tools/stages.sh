#!/usr/bin/env bash
# Makes one target after the other and says what each took: bash tools/stages.sh lint unit book
set -euo pipefail
cd "$(dirname "$0")/.."
summary=()
total=$SECONDS
finish() {
  status=$?
  [ $status = 0 ] || summary+=("$(printf '%6d s  %s FAILED' $((SECONDS - start)) "$stage")")
  printf '\n== seconds of each stage\n'
  printf '%s\n' "${summary[@]}" "$(printf '%6d s  together' $((SECONDS - total)))"
}
trap finish EXIT
for stage in "$@"; do
  start=$SECONDS
  printf '\n== %s  %s\n' "$(date +%H:%M:%S)" "$stage"
  ${MAKE:-make} --no-print-directory $stage
  summary+=("$(printf '%6d s  %s' $((SECONDS - start)) "$stage")")
done
