# lib.sh NAME.sh SIDE OUT SOURCES MENDS: builds one side into the archive OUT, as root. MENDS are
# the ids of causes whose mend is applied.
set -euo pipefail
recipe=$1 side=$2 out=$3 sources=$4 mends=${5:-}
mended() { [[ " $mends " == *" $1 "* ]]; }

# Both folders lie below one that every system has and nobody removes: a mount goes away, from every
# namespace, with the folder that it is on.
if [ "$side" = a ]; then
	where=/mnt/build-1x7 host=amsterdam zone=UTC locale=C.UTF-8 mask=022 clock='2026-01-01 08:00:00' cpus=0 who=root
else
	# Another file system, which lists folders in another order, and a deeper folder.
	where=/srv/reproducible/q9kk2 host=oslo-builder zone=Asia/Kolkata locale=C mask=002 clock='2026-02-03 04:05:06' cpus=0-$(($(nproc) - 1)) who=games
fi
if [ -z "${INSIDE:-}" ]; then # not there yet
	own=$(mktemp -d /var/tmp/upstream-XXXXXX) # so that several may build at once in one folder
	trap 'rm -rf "$own"' EXIT
	go=$(PATH=$PATH:/usr/local/go/bin command -v go)
	env -i INSIDE=1 PATH=/usr/sbin:/usr/bin:/sbin:/bin:"${go%/*}" HOME="$where" USER=$who LOGNAME=$who TZ=$zone LC_ALL=$locale \
		unshare --uts --mount sh -euc 'hostname '$host'
			case $0 in
			/srv/*) mount -t tmpfs tmpfs /srv ;;
			/mnt/*) mount --bind '$own' /mnt ;;
			esac
			mkdir -p "$0"; chown '$who': "$0"; exec "$@"' "$where" \
		taskset -c $cpus setpriv --reuid=$who --regid=$who --clear-groups \
		faketime -f "@$clock" bash "$0" "$recipe" "$side" - "$sources" "$mends" >"$out"
	exit
fi

umask $mask
CFLAGS="-g -O2"
# Mends, as the report says them.
mended 13-umask && umask 022
mended 17-timezone && export TZ=UTC
mended 16-locale && export LC_ALL=C.UTF-8
mended 1-build-time && export SOURCE_DATE_EPOCH=1767225600
mended 10-zip-header && export SOURCE_DATE_EPOCH=1767225600 # wheels read it
mended 29-docs && export SOURCE_DATE_EPOCH=1767225600 FORCE_SOURCE_DATE=1
mended 3-build-path && CFLAGS+=" -ffile-prefix-map=$where=." && export GOFLAGS=-trimpath

jobs=-j$(nproc)
root=$where/root
mkdir -p "$where/src" "$root"
cd "$where/src"

. "$recipe"
unpack
# As in a checkout of that day. It cannot be left to faketime: what some programs (Python) see is the file
# system's own time, and two builds may fall into one second of that.
find . -exec touch -h -d "$clock" {} +
{ build; } >"$where/log" 2>&1 || { tail -n 30 "$where/log" >&2; exit 1; }

flags=()
mended 6-file-order && flags+=(--sort=name)
mended 2-file-time && flags+=(--mtime=@1767225600)
mended 12-owner && flags+=(--owner=0 --group=0 --numeric-owner)
tar "${flags[@]}" --format=ustar -C "$root" -cf - .
