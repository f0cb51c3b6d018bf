#!/usr/bin/env bash
# A MySQL of today for the tests, which Debian has in its unstable suite only: the packages are unpacked into a cache
# outside the tree, with their own libc, and nothing is installed. Does nothing where they are there; fails where they
# cannot be had. tests/servers.py starts the server with the loader of that libc, from a copy of the data made here.
set -euo pipefail

cache=${MOH_TESTS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/moh-tests}
compgen -G "$cache/mysql-*/data/mysql.ibd" >/dev/null && exit 0
command -v apt-get >/dev/null && command -v dpkg >/dev/null

# The mirror that apt uses for this release, whatever its name.
release=$(. /etc/os-release && echo "$ID ${VERSION_CODENAME:-}")
[ "${release%% *}" = debian ]
mirror=$(apt-get indextargets --no-release-info --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' |
    awk -v release="${release##* }" '$1 == release { print $2; exit }')
[ -n "$mirror" ]

mkdir -p "$cache"
work=$(mktemp -d "$cache/.mysql-XXXXXX")
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
mkdir -p "$work"/{state/lists/partial,downloads/archives/partial}
: >"$work/status" # nothing counts as installed, so that all that the server needs is fetched
keys=/usr/share/keyrings/debian-archive-keyring.gpg
signed=
[ ! -e $keys ] || signed="[signed-by=$keys]"
echo "deb $signed $mirror unstable main" >"$work/sources.list"
apt() {
    apt-get -qq -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::State="$work/state" -o Dir::State::status="$work/status" -o Dir::Cache="$work/downloads" \
        -o APT::Install-Recommends=false -o Acquire::Languages=none -o APT::Sandbox::User=root "$@" >/dev/null
}

echo "unpacking MySQL for the tests into $cache"
apt update
apt --yes --download-only install mysql-server-core
mkdir "$work/unpacked"
for package in "$work"/downloads/archives/*.deb; do
    case ${package##*/} in perl* | libperl* | gcc-*) continue ;; esac
    dpkg -x "$package" "$work/unpacked"
done

libraries=$(dirname "$work"/unpacked/usr/lib/*/ld-linux*.so.*)
mysqld=("$libraries"/ld-linux*.so.* --library-path "$libraries" "$work/unpacked/usr/sbin/mysqld" --no-defaults)
user=$(id -un)
"${mysqld[@]}" --initialize-insecure "--user=$user" "--basedir=$work/unpacked/usr" \
    "--lc-messages-dir=$work/unpacked/usr/share/mysql" "--datadir=$work/unpacked/data" "--tmpdir=$work" \
    --secure-file-priv= --skip-log-bin --innodb-doublewrite=OFF --innodb-redo-log-capacity=8M 2>"$work/log" ||
    { cat "$work/log" >&2; exit 1; }
version=$("${mysqld[@]}" --version | awk '{ print $3 }')
mv -T "$work/unpacked" "$cache/mysql-$version" 2>/dev/null || [ -e "$cache/mysql-$version" ]
