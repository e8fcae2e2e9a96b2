#!/bin/sh
# deploy/restore.sh FOLDER: puts back what deploy/backup.sh has saved, into a mesh that has no volumes yet. Then start
# it: docker compose up --wait. The first start folds the whole log anew.
set -eu
[ $# -eq 1 ] || { sed -n 2,3p "$0"; exit 2; }
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
[ -s "$folder/volumes.tar" ] && [ -s "$folder/secrets.tar" ] || { echo "$folder holds no backup" >&2; exit 1; }
umask 077
owned() { docker compose run --rm --no-deps -T --user 10001:10001 owner "$@"; }

docker compose run --rm --no-deps -T owner
if [ -n "$(owned find /volumes -mindepth 2 -maxdepth 2 -not -path "/volumes/projections/*")" ]; then
  echo "the volumes hold a mesh already: if it may be forgotten, docker compose down -v removes it" >&2
  exit 1
fi
owned tar -C /volumes -xf - <"$folder/volumes.tar"
tar -C deploy -xf "$folder/secrets.tar"
echo "restored from $folder"
