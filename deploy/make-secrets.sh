#!/bin/sh
# Makes what docker-compose.yml reads from deploy/secrets/: a key on the log for each service and for the operator
# (nkeys), with the public halves for the server; a certificate for the log's server, and the authority that signs it;
# two API keys, one for requesters and one for operators, and their hashes for the gateway; and the Ed25519 key that
# signs receipts. What is there already stays, so after an upgrade it adds what came since. With --renew it makes the
# server's certificate anew. The folder is closed to other users; most of its files are readable because containers run
# as another user than you. Needs an openssl that knows Ed25519, or else the image shardy:$SHARDY_TAG, to run in.
set -eu
cd "$(dirname "$0")"
case ${1:-} in "" | --renew) ;; *) sed -n 2,7p "$0"; exit 2 ;; esac

if ! openssl genpkey -algorithm ed25519 >/dev/null 2>&1; then
  [ -z "${SHARDY_IN_IMAGE:-}" ] && docker run --rm --network none --user "$(id -u):$(id -g)" -e SHARDY_IN_IMAGE=1 \
    -v "$PWD:/deploy" "shardy:${SHARDY_TAG:-local}" sh /deploy/make-secrets.sh "$@" && exit 0
  echo "no openssl that knows Ed25519: build the image first (docker compose build), then run this again" >&2
  exit 1
fi

umask 077
mkdir -p secrets/nkeys
chmod 700 secrets secrets/nkeys

random() { od -An -tx1 -N24 /dev/urandom | tr -d ' \n'; }
sha256() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -d ' ' -f 1; }
# In place: a container that has the file mounted goes on seeing it.
put() { [ -e "$2" ] && chmod u+w "$2"; cat "$1" >"$2" && rm -f "$1"; }

# -- API keys --

touch secrets/api_keys
for pair in api_key:submit operator_key:operate; do
  file=secrets/${pair%:*} scope=${pair#*:}
  if [ ! -s "$file" ]; then
    printf 'shardy_%s\n' "$(random)" >"$file"
  fi
  hash=$(tr -d '\n' <"$file" | sha256)
  grep -q "^$hash" secrets/api_keys || printf '%s %s  # deploy/make-secrets.sh\n' "$hash" "$scope" >>secrets/api_keys
done

# -- the mesh's signing key --

if [ ! -s secrets/mesh_key.pem ]; then
  openssl genpkey -algorithm ed25519 -out secrets/mesh_key.new 2>/dev/null
  mv secrets/mesh_key.new secrets/mesh_key.pem
fi

# -- keys on the log: the text form of nkeys is base32 of a prefix, the 32 bytes of a key, and a CRC-16 --

nkey() { # nkey BYTES…, in decimal: prefix and key
  crc=0
  for byte in "$@"; do
    crc=$((crc ^ byte << 8)) bit=0
    while [ $bit -lt 8 ]; do
      if [ $((crc & 32768)) -ne 0 ]; then crc=$(((crc << 1 ^ 4129) & 65535)); else crc=$((crc << 1)); fi
      bit=$((bit + 1))
    done
  done
  rest=0 bits=0 places=
  for byte in "$@" $((crc & 255)) $((crc >> 8)); do
    rest=$((rest << 8 | byte)) bits=$((bits + 8))
    while [ $bits -ge 5 ]; do
      bits=$((bits - 5)) places="$places $((rest >> bits & 31))"
    done
    rest=$((rest & (1 << bits) - 1))
  done
  [ $bits -eq 0 ] || places="$places $((rest << 5 - bits & 31))"
  # shellcheck disable=SC2086 # one place a letter
  printf '%s\n' $places | awk '{ printf "%s", substr("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", $1 + 1, 1) }'
}
bytes() { od -An -v -tu1 | tr -s ' \n' ' '; }

: >secrets/nats_keys.new
for role in gateway matchmaker quorum prover-verifier gossip-bridge dlq operator; do
  seed=secrets/nkeys/$role.seed public=secrets/nkeys/$role.pub
  if [ ! -s "$seed" ] || [ ! -s "$public" ]; then
    openssl genpkey -algorithm ed25519 -outform DER -out secrets/nkey.der 2>/dev/null
    # in both forms the key is the last 32 bytes; the prefixes say "seed of a user" and "user"
    # shellcheck disable=SC2046 # a word a byte
    nkey 149 0 $(tail -c 32 secrets/nkey.der | bytes) >"$seed.new"
    # shellcheck disable=SC2046
    nkey 160 $(openssl pkey -inform DER -in secrets/nkey.der -pubout -outform DER | tail -c 32 | bytes) >"$public"
    rm secrets/nkey.der
    mv "$seed.new" "$seed"
  fi
  printf 'nkey_%s: "%s"\n' "$(echo "$role" | tr - _)" "$(cat "$public")" >>secrets/nats_keys.new
done
if cmp -s secrets/nats_keys.new secrets/nats_keys.conf; then rm secrets/nats_keys.new; else
  put secrets/nats_keys.new secrets/nats_keys.conf
fi

# -- certificates of the log's server --

extensions() { printf '%s\n' "subjectKeyIdentifier=hash" "authorityKeyIdentifier=keyid" "$@" >secrets/extensions; }
if [ ! -s secrets/nats_ca.pem ] || [ ! -s secrets/nats_ca.key ]; then
  openssl ecparam -name prime256v1 -genkey -noout -out secrets/nats_ca.key
  extensions "basicConstraints=critical,CA:TRUE" "keyUsage=critical,keyCertSign,cRLSign"
  openssl req -new -key secrets/nats_ca.key -subj "/CN=shardy log authority" -out secrets/request
  openssl x509 -req -in secrets/request -signkey secrets/nats_ca.key -days 3650 -sha256 -extfile secrets/extensions \
    -out secrets/nats_ca.new 2>/dev/null
  put secrets/nats_ca.new secrets/nats_ca.pem
  rm -f secrets/nats_cert.pem
fi
if [ ! -s secrets/nats_cert.pem ] || [ ! -s secrets/nats_cert.key ] || [ "${1:-}" = --renew ]; then
  openssl ecparam -name prime256v1 -genkey -noout -out secrets/nats_key.new
  # one for all nodes of a cluster, which show it to each other as well
  extensions "basicConstraints=critical,CA:FALSE" "keyUsage=critical,digitalSignature" \
    "extendedKeyUsage=serverAuth,clientAuth" \
    "subjectAltName=DNS:nats,DNS:nats-1,DNS:nats-2,DNS:localhost,IP:127.0.0.1"
  openssl req -new -key secrets/nats_key.new -subj "/CN=nats" -out secrets/request
  openssl x509 -req -in secrets/request -CA secrets/nats_ca.pem -CAkey secrets/nats_ca.key -days 730 -sha256 \
    -set_serial "0x$(random | cut -c 1-30)" -extfile secrets/extensions -out secrets/nats_cert.new 2>/dev/null
  put secrets/nats_key.new secrets/nats_cert.key
  put secrets/nats_cert.new secrets/nats_cert.pem
fi
rm -f secrets/request secrets/extensions

chmod 444 secrets/nkeys/*.seed secrets/nats_keys.conf secrets/mesh_key.pem
chmod 444 secrets/nats_ca.pem secrets/nats_cert.pem secrets/nats_cert.key
chmod 600 secrets/nats_ca.key secrets/api_key secrets/operator_key
chmod 644 secrets/api_keys
rm -f secrets/nats_password secrets/nats_auth.conf # what an earlier version made
echo "the API keys are in $(pwd)/secrets: api_key for jobs, operator_key to operate the mesh"
end=$(openssl x509 -in secrets/nats_cert.pem -noout -enddate | cut -d = -f 2)
echo "the certificate of the log's server ends on $end: renew it before, with deploy/make-secrets.sh --renew"
