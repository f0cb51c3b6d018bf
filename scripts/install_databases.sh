#!/usr/bin/env bash
# PostgreSQL and MariaDB for the tests, which start throwaway servers from these binaries. Installs what is missing
# where that is possible without asking; otherwise says loudly what will not be tested.
set -euo pipefail

has_postgres() { command -v postgres >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null; }
has_mariadb() { PATH="$PATH:/usr/sbin" command -v mariadbd mysqld >/dev/null; }

missing=()
has_postgres || missing+=(postgresql)
has_mariadb || missing+=(mariadb-server)
[ ${#missing[@]} -eq 0 ] && exit 0

if command -v apt-get >/dev/null; then
    root=()
    [ "$(id -u)" -eq 0 ] || root=(sudo -n)
    if [ ${#root[@]} -eq 0 ] || sudo -n true 2>/dev/null; then
        echo "installing ${missing[*]} for the tests"
        if ${root[@]+"${root[@]}"} apt-get update -qq &&
            ${root[@]+"${root[@]}"} env DEBIAN_FRONTEND=noninteractive \
                apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null >/dev/null; then
            exit 0
        fi
    fi
fi

cat >&2 <<END
===============================================================================
  NOT EVERYTHING WILL BE TESTED: this machine has no ${missing[*]}.
  Debian, Ubuntu:  sudo apt-get install postgresql mariadb-server
  macOS:           brew install postgresql mariadb
===============================================================================
END
