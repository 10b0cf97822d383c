#!/usr/bin/env bash
# What the native servers of `aura services` and of the tests need from the distribution: Java and Maven for Kafka and
# Neo4j, and PostgreSQL. Valkey comes with the extra `servers`. Nothing happens where all of it is there.
set -uo pipefail
missing=()
command -v java >/dev/null || missing+=(openjdk-17-jre-headless)
command -v mvn >/dev/null || missing+=(maven)
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null || missing+=(postgresql)
[ ${#missing[@]} = 0 ] && exit 0

as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo -n)
if command -v apt-get >/dev/null && { [ ${#as_root[@]} = 0 ] || sudo -n true 2>/dev/null; }; then
  # Without this PostgreSQL's package starts a server of its own.
  configuration=(-o Dpkg::Options::=--force-confold)
  "${as_root[@]}" mkdir -p /etc/postgresql-common
  [ -e /etc/postgresql-common/createcluster.conf ] ||
    echo 'create_main_cluster = false' | "${as_root[@]}" tee /etc/postgresql-common/createcluster.conf >/dev/null
  if "${as_root[@]}" apt-get update -qq &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get install -y -qq --no-install-recommends "${configuration[@]}" "${missing[@]}" >/dev/null; then
    exit 0
  fi
fi
echo "Not installed: ${missing[*]}. The tests that need them will be skipped, and fail in CI." >&2
