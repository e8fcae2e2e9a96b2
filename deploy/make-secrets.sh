#!/bin/sh
# Makes what docker-compose.yml reads from deploy/secrets/: the log's password, for the services and for the server; two
# API keys, one for requesters and one for operators, and their hashes for the gateway; and the Ed25519 key that signs
# receipts. What is there already stays. The folder is closed to other users; most of its files are readable because
# containers run as another user than you. SHARDY_TAG: the image whose Python makes the signing key where openssl can't.
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

touch secrets/api_keys
for pair in api_key:submit operator_key:operate; do
  file=secrets/${pair%:*} scope=${pair#*:}
  if [ ! -s "$file" ]; then
    printf 'shardy_%s\n' "$(random)" >"$file"
  fi
  hash=$(tr -d '\n' <"$file" | sha256)
  grep -q "^$hash" secrets/api_keys || printf '%s %s  # deploy/make-secrets.sh\n' "$hash" "$scope" >>secrets/api_keys
done

if [ ! -s secrets/mesh_key.pem ]; then
  umask 077
  openssl genpkey -algorithm ed25519 -out secrets/mesh_key.new 2>/dev/null ||
    docker run --rm --network none "shardy:${SHARDY_TAG:-local}" python -c "
from cryptography.hazmat.primitives import serialization as s
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey as K
print(K.generate().private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()).decode(), end='')
" >secrets/mesh_key.new || {
    rm -f secrets/mesh_key.new
    echo "no openssl that knows Ed25519: build the image first (docker compose build), then run this again" >&2
    exit 1
  }
  mv secrets/mesh_key.new secrets/mesh_key.pem
fi

chmod 444 secrets/nats_password secrets/nats_auth.conf secrets/mesh_key.pem
chmod 644 secrets/api_keys
chmod 600 secrets/api_key secrets/operator_key
echo "the API keys are in $(pwd)/secrets: api_key for jobs, operator_key to operate the mesh"
