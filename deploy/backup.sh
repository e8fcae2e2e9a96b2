#!/bin/sh
# deploy/backup.sh FOLDER: the mesh's log, archive and blobs (volumes.tar) and deploy/secrets (secrets.tar). The
# containers of docker-compose.yml are stopped meanwhile, and started again whatever happens: what nobody writes is
# copied as it is. Workers keep their results and come back. Projections are left out: they are folded from the log.
set -eu
[ $# -eq 1 ] || { sed -n 2,4p "$0"; exit 2; }
mkdir -p "$1"
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
for name in volumes.tar secrets.tar; do
  [ ! -e "$folder/$name" ] || { echo "$folder/$name exists: name another folder" >&2; exit 1; }
done
umask 077
owned() { docker compose run --rm --no-deps -T --user 10001:10001 owner "$@"; }

trap 'docker compose start' EXIT
docker compose stop
# shellcheck disable=SC2046 # a word each: blobs, and events or the nodes of a cluster
owned tar -C /volumes -cf - $(owned ls /volumes | tr -d '\r' | grep -v projections) >"$folder/volumes.new"
tar -C deploy -cf "$folder/secrets.tar" secrets
mv "$folder/volumes.new" "$folder/volumes.tar"
echo "backed up to $folder: keep it as you keep the secrets"
