#!/bin/sh
# Makes what docker-compose.yml reads from deploy/secrets/: the log's password, for the services and for the server,
# an API key, and its hash for the gateway. What is there already stays. The folder is closed to other users; most of
# its files are readable because containers run as another user than you.
set -eu
cd "$(dirname "$0")"
mkdir -p secrets
chmod 700 secrets

random() { od -An -tx1 -N24 /dev/urandom | tr -d ' \n'; }
sha256() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -d ' ' -f 1; }

if [ ! -s secrets/nats_password ]; then
  random >secrets/nats_password
fi
printf 'authorization { user: "shardy", password: "%s" }\n' "$(cat secrets/nats_password)" >secrets/nats_auth.conf
if [ ! -s secrets/api_key ]; then
  printf 'shardy_%s\n' "$(random)" >secrets/api_key
fi
hash=$(tr -d '\n' <secrets/api_key | sha256)
touch secrets/api_keys
grep -q "^$hash" secrets/api_keys || printf '%s  # deploy/make-secrets.sh\n' "$hash" >>secrets/api_keys
chmod 444 secrets/nats_password secrets/nats_auth.conf
chmod 644 secrets/api_keys
chmod 600 secrets/api_key
echo "the API key is in $(pwd)/secrets/api_key"
