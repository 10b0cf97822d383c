#!/usr/bin/env bash
# What the native servers of `aura services` and of the tests need: Java and Maven for Kafka and Neo4j, and PostgreSQL,
# from the distribution; the jars of both, from Maven. Valkey comes with the extra `servers`. Nothing happens where all
# of it is there, and what cannot be had is said: the tests decide what follows from it.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
minimum_java=17

# The Java that `aura services` takes.
java_version() {
  "${JAVA_HOME:+$JAVA_HOME/bin/}java" -version 2>&1 | sed -nE 's/.*version "(1\.)?([0-9]+).*/\2/p' | head -n 1
}
has_java() {
  local version
  version=$(java_version)
  [ "${version:-0}" -ge "$minimum_java" ]
}
has_maven() { command -v mvn >/dev/null; }
has_postgres() { compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null; }

as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo -n)
may_install() { command -v apt-get >/dev/null && { [ ${#as_root[@]} = 0 ] || sudo -n true 2>/dev/null; }; }
install() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    -o Dpkg::Options::=--force-confold "$1" >/dev/null
}
install_java() {
  local name
  # Each release of a distribution has some of these only.
  for name in openjdk-17-jre-headless openjdk-21-jre-headless default-jre-headless; do
    apt-cache show "$name" >/dev/null 2>&1 && install "$name" && has_java && return
  done
}
install_postgres() {
  # Without this its package starts a server of its own.
  "${as_root[@]}" mkdir -p /etc/postgresql-common
  [ -e /etc/postgresql-common/createcluster.conf ] ||
    echo 'create_main_cluster = false' | "${as_root[@]}" tee /etc/postgresql-common/createcluster.conf >/dev/null
  install postgresql
}

if ! { has_java && has_maven && has_postgres; } && may_install; then
  "${as_root[@]}" apt-get update -qq
  # One at a time: a package that is not there does not keep the others away.
  has_java || install_java
  has_maven || install maven
  has_postgres || install_postgres
fi

missing=()
version=$(java_version)
has_java || missing+=("Java $minimum_java or newer (${JAVA_HOME:-PATH} has ${version:-none})")
has_maven || missing+=(Maven)
has_postgres || missing+=(PostgreSQL)
if [ ${#missing[@]} != 0 ]; then
  printf 'Not here and not installed: %s. The tests that need it are skipped, and fail in CI.\n' "${missing[@]}" >&2
fi

if [ ! -x .venv/bin/aura ]; then
  echo "The jars of Kafka and Neo4j are fetched when they first start: there is no .venv/bin/aura to do it now." >&2
elif ! told=$(.venv/bin/aura services fetch 2>&1); then
  printf 'Not all jars of Kafka and Neo4j could be fetched; the tests that need them try again.\n%s\n' "$told" >&2
fi
exit 0
