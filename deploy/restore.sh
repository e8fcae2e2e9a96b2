#!/bin/sh
# deploy/restore.sh FOLDER: puts back what deploy/backup.sh has saved, into a mesh that has no volumes yet. Then start it:
# docker compose up --wait. The first start folds the whole log anew.
set -eu
[ $# -eq 1 ] || { sed -n 2,3p "$0"; exit 2; }
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
[ -s "$folder/volumes.tar" ] && [ -s "$folder/secrets.tar" ] || { echo "$folder holds no backup" >&2; exit 1; }
umask 077

tar -C deploy -xf "$folder/secrets.tar"
docker compose run --rm --no-deps -T owner
if [ -n "$(docker compose run --rm --no-deps -T --user 10001:10001 owner sh -c 'ls -A /volumes/events /volumes/blobs | grep -v :')" ]; then
  echo "the volumes hold a mesh already: stop and remove it with docker compose down -v, if it may be forgotten" >&2
  exit 1
fi
docker compose run --rm --no-deps -T --user 10001:10001 owner tar -C /volumes -xf - <"$folder/volumes.tar"
echo "restored from $folder"
