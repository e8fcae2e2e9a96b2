#!/bin/sh
# deploy/replace.sh SERVICE…: replaces the running containers of these services by ones of the present image and
# settings, one after another, each once the one before is healthy. The number of each stays.
set -eu
[ $# -ge 1 ] || { sed -n 2,3p "$0"; exit 2; }
cd "$(dirname "$0")/.."
for service in "$@"; do
  containers=$(docker compose ps -q "$service")
  count=$(echo "$containers" | grep -c .) || { echo "no container of $service runs" >&2; exit 1; }
  for container in $containers; do
    docker stop "$container" >/dev/null
    docker rm "$container" >/dev/null
    docker compose up --detach --no-build --no-deps --no-recreate --wait --scale "$service=$count" "$service"
  done
  echo "$service: $count replaced"
done
