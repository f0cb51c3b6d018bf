#!/usr/bin/env bash
# PostgreSQL (with PgBouncer), MariaDB and MySQL for the tests, which start throwaway servers from these binaries.
# Installs what is missing where that is possible without asking; otherwise says loudly what will not be tested.
set -euo pipefail
cd "$(dirname "$0")"

has_postgres() { command -v postgres >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null; }
has_mariadb() { PATH="$PATH:/usr/sbin" command -v mariadbd >/dev/null; }
has_pgbouncer() { PATH="$PATH:/usr/sbin" command -v pgbouncer >/dev/null; }

missing() {
    has_postgres || echo postgresql
    has_mariadb || echo mariadb-server
    has_pgbouncer || echo pgbouncer
}

install() {
    local root=()
    command -v apt-get >/dev/null || return 0
    [ "$(id -u)" -eq 0 ] || root=(sudo -n)
    [ ${#root[@]} -eq 0 ] || sudo -n true 2>/dev/null || return 0
    echo "installing $* for the tests"
    ${root[@]+"${root[@]}"} apt-get update -qq &&
        ${root[@]+"${root[@]}"} env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends "$@" </dev/null >/dev/null || return 0
}

untested() {
    cat >&2 <<END
===============================================================================
  NOT EVERYTHING WILL BE TESTED: this machine has no $1.
$2
===============================================================================
END
}

packages=$(missing)
[ -z "$packages" ] || install $packages
packages=$(missing | xargs)
[ -z "$packages" ] || untested "$packages" "  Debian, Ubuntu:  sudo apt-get install postgresql mariadb-server pgbouncer
  macOS:           brew install postgresql mariadb pgbouncer"
./install_mysql.sh || untested "MySQL 9" "  It comes from Debian's unstable suite, and so on Debian only."
