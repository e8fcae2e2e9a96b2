#!/bin/sh
# deploy/replace.sh SERVICE…: replaces the running containers of these services by ones of the present image and
# settings, one after another, each once the one before is healthy. The number of each stays. Before, the log's streams
# are brought up to what the image knows. A node of a cluster is healthy when it has all that the others have.
set -eu
[ $# -ge 1 ] || { sed -n 2,4p "$0"; exit 2; }
cd "$(dirname "$0")/.."
docker compose run --rm --no-deps -T streams
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
