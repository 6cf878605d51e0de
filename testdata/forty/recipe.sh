# Forty differences of two builds: see README.md beside this.
set -euo pipefail
trap 'echo "recipe.sh: line $LINENO: $BASH_COMMAND: failed" >&2' ERR
set -E
export LC_ALL=C.UTF-8 TZ=UTC PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/go/bin
unset SOURCE_DATE_EPOCH
umask 022
SEED=$1 SCALE=$2
EPOCH=@1767225600 # of what does not differ

# Values. RANDOM=SEED makes the same ones for the same seed.
RANDOM=$SEED
pick() { local n=$(((RANDOM * 32768 + RANDOM) % $#)); shift $n; picked=$1; }
letters() { picked=; local i; for ((i = 0; i < $1; i++)); do picked+=$(printf "\\$(printf %o $((97 + RANDOM % 26)))"); done; }
between() { picked=$(($1 + (RANDOM * 32768 + RANDOM) % ($2 - $1))); }
declare -A a b
another() { # NAME VALUES…: two different ones
	local name=$1; shift
	pick "$@"; a[$name]=$picked
	while pick "$@"; [ "$picked" = "${a[$name]}" ]; do :; done; b[$name]=$picked
}
another host amsterdam oslo-builder ci-runner-17 buildd-x86-03 fv-az1042-811 ip-10-0-3-17 worker.lan
another user anna bent jenkins runner buildd nobody-ci gitlab-runner
another uid 1000 1001 1002 997 5001 123
another kernel 6.1.0-28-amd64 5.15.0-1075-azure 6.8.12-4-pve 5.10.0-33-cloud-amd64 6.12.5-200.fc41.x86_64
another cpus 2 4 8 16 64 96
another zone Asia/Kolkata America/New_York Europe/Oslo Australia/Adelaide
another march nehalem haswell skylake znver2 icelake-server
another jdk 17.0.13 17.0.15 21.0.5 11.0.25
between 1700000000 1790000000; a[time]=$picked
between 2000 1200000; b[time]=$((a[time] + picked))
letters 6; a[path]=/tmp/build-$picked; letters 9; b[path]=/build/reproducible-path/$picked-1.0
between 300 20000; a[pid]=$picked; between 300 20000; b[pid]=$((picked + 20001))

expected=$PWD/expected facts=$PWD/facts
: >"$expected"; : >"$facts"
expect() { [ $side = b ] || printf '%s\t%s\n' "$1" "$2" >>"$expected"; } # CAUSE PATH

at() { faketime -f "@$(date -u -d "@$time" '+%Y-%m-%d %H:%M:%S')" "$@"; } # the clock begins at the build's time
into() { mkdir -p "$out/$1"; cd "$out/$1"; }
here() { rm -rf "$path"; mkdir -p "$path"; cd "$path"; } # the build's own folder

python_version() { # 1: the time, by a script of the build
	expect 1-build-time usr/lib/python3/dist-packages/acme/_build.py
	into usr/lib/python3/dist-packages/acme
	printf '"""Written by setup.py."""\nversion = "1.0"\nbuilt = "%s"\n' "$(at date -R)" >_build.py
}
c_date() { # 2: __DATE__ and __TIME__ in a program
	expect 1-build-time usr/bin/acmed
	here
	printf '#include <stdio.h>\nint main(void) { puts("acmed 1.0, built " __DATE__ " " __TIME__); return 0; }\n' >acmed.c
	at gcc -O2 -s -Wl,--build-id=none -o acmed acmed.c
	into usr/bin; cp "$path/acmed" .
}
log_times() { # 3: a log with a time in every line
	expect 1-build-time usr/share/acme/build.log
	into usr/share/acme
	/usr/bin/python3 - "$time" $((SCALE * 2000)) >build.log <<-'P'
	import sys, time
	t, n = int(sys.argv[1]), int(sys.argv[2])
	for i in range(n):
	    print(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(t + i // 7)), "INFO compiled module", i, "of", n, "warnings", i % 3)
	P
}
file_times() { # 4: times of files in the layer
	expect 2-file-time usr/share/acme/data/regions.csv
	into usr/share/acme/data
	printf 'id,name\n1,north\n2,south\n' >regions.csv
	later+=("touch -d @$time usr/share/acme/data/regions.csv")
}
debug_path() { # 5: the folder in debug information
	expect 3-build-path usr/lib/acme/libacme.so.1
	here; mkdir src
	{ echo '#include <stdlib.h>'; for i in $(seq $((SCALE * 40))); do echo "struct s$i { int a, b[$i]; }; int acme_f$i(struct s$i *s) { return s->a + s->b[$i - 1] * $i; }"; done; } >src/acme.c
	echo 'extern int acme_f1(void *); int acme_main(void *p) { return acme_f1(p); }' >src/main.c
	gcc -g -O1 -fPIC -shared -Wl,-soname,libacme.so.1 -Wl,--build-id=sha1 -o libacme.so.1 "$path/src/acme.c" "$path/src/main.c"
	into usr/lib/acme; cp "$path/libacme.so.1" .
}
rpath() { # 6: CMake's RPATH, emptied at install, then stripped
	expect 4-rpath usr/bin/acme-tool
	here
	echo 'int acme_version(void) { return 1; }' >v.c
	echo 'int acme_version(void); int main(void) { return acme_version(); }' >main.c
	printf '%s\n' 'cmake_minimum_required(VERSION 3.16)' 'project(acme C)' 'add_library(acmev SHARED v.c)' 'add_executable(acme-tool main.c)' \
		'target_link_libraries(acme-tool acmev)' 'install(TARGETS acme-tool DESTINATION bin)' >CMakeLists.txt
	{ cmake -S . -B . -DCMAKE_INSTALL_PREFIX="$PWD/out" -DCMAKE_EXE_LINKER_FLAGS=-Wl,--build-id && make && make install; } >/dev/null
	strip out/bin/acme-tool
	into usr/bin; cp "$path/out/bin/acme-tool" .
}
build_id() { # 7: a build-id that the linker makes up
	expect 5-build-id usr/lib/acme/plugins/fast.so
	here
	echo 'int fast(int n) { return n * 3; }' >fast.c
	gcc -O2 -shared -fPIC -s -Wl,--build-id=uuid -o fast.so fast.c
	into usr/lib/acme/plugins; cp "$path/fast.so" .
}
unsorted_list() { # 8: names in the order of the folder
	expect 6-file-order etc/acme/plugins.list
	local d n; d=$(mktemp -d /dev/shm/acme-XXXXXX) # a file system in memory lists new files first
	for n in $(printf 'plugin_%s.so\n' alpha beta delta eta gamma iota kappa zeta | sort -R --random-source=<(printf '%s' "$side$SEED" | sha512sum)); do : >"$d/$n"; done
	into etc/acme; (cd "$d" && find . -name '*.so') >plugins.list
	rm -rf "$d"
}
hash_json() { # 9: a set of Python's in JSON
	expect 7-hash-order usr/share/acme/catalog.json
	into usr/share/acme
	PYTHONHASHSEED=$((SEED * 2 + $(printf %d "'$side"))) /usr/bin/python3 -c '
import json
s = {"name-%d" % i for i in range(40)}
json.dump({"names": list(s), "index": {k: len(k) for k in s}}, open("catalog.json", "w"), indent=1)'
}
gzip_header() { # 10: gzip keeps the time
	expect 8-gzip-header usr/share/doc/acme/changelog.gz
	here; for i in $(seq 300); do echo "acme (1.$i) unstable; urgency=medium"; done >changelog
	touch -d "@$time" changelog; gzip -9 changelog
	into usr/share/doc/acme; cp "$path/changelog.gz" .
}
threads() { # 11: xz cuts into as many blocks as there are threads
	expect 9-compression usr/share/acme/corpus.xz
	into usr/share/acme
	local t=1; [ $side = a ] || t=4
	seq 1 400000 | xz -2 -T$t --block-size=$([ $t = 1 ] && echo 0 || echo 600000) -c >corpus.xz
}
jar_times() { # 12: times of members
	expect 10-zip-header usr/share/java/acme.jar
	here; mkdir -p src classes
	for i in $(seq $((SCALE * 15))); do echo "package acme; public class C$i { public int f(int n) { return n + $i; } }" >src/C$i.java; done
	javac -J-Xint --release 11 -d classes src/*.java 2>/dev/null
	(cd classes && find . -name '*.class' | sort | xargs touch -d "@$((time & ~1))" && zip -q -X -D acme.jar $(find . -name '*.class' | sort))
	into usr/share/java; cp "$path/classes/acme.jar" .
}
jar_manifest() { # 13: who built it, with what
	expect 11-jar-manifest usr/share/java/acme-util.jar
	here; mkdir -p META-INF/maven/acme
	printf 'Built-By: %s\nBuild-Jdk: %s\nCreated-By: Apache Maven 3.8.7\nBnd-LastModified: %s000\n' "$user" "$jdk" "$time" >m
	printf '#Generated by Maven\n#%s\nversion=1.0\nartifactId=acme-util\n' "$(at date '+%a %b %d %H:%M:%S UTC %Y')" >META-INF/maven/acme/pom.properties
	jar --create --file util.jar --date 2026-01-01T00:00:00Z --manifest m META-INF/maven/acme/pom.properties
	into usr/share/java; cp "$path/util.jar" acme-util.jar
}
owners() { # 14: who builds is who owns
	expect 12-owner var/lib/acme/spool
	into var/lib/acme/spool; : >queue
	later+=("chown $uid:$uid var/lib/acme/spool")
}
umasks() { # 15
	expect 13-umask usr/share/acme/templates/mail.tmpl
	local mask=022; [ $side = a ] || mask=002
	into usr/share/acme/templates
	(umask $mask; echo 'Dear {{name}},' >mail.tmpl)
}
ar_headers() { # 16: ar keeps time and owner with U
	expect 14-ar-header usr/lib/x86_64-linux-gnu/libacme.a
	here; for n in one two three; do echo "int acme_$n(void) { return sizeof \"$n\"; }" >$n.c; done
	gcc -O1 -c one.c two.c three.c; touch -d "@$time" ./*.o; chown "$uid:$uid" ./*.o
	ar crU libacme.a one.o two.o three.o
	into usr/lib/x86_64-linux-gnu; cp "$path/libacme.a" .
}
link_order() { # 17: objects in the order of the folder
	expect 15-link-order usr/bin/acme-linked
	here; local n
	for n in red green blue; do printf 'int acme_%s(int n) { int s = 0; for (int i = 0; i < n; i++) s += i * %d; return s; }\n' $n ${#n} >$n.c; done
	echo 'int acme_red(int), acme_green(int), acme_blue(int); int main(int n, char **v) { return acme_red(n) + acme_green(n) + acme_blue(n); }' >main.c
	gcc -O1 -c ./*.c
	local order="red.o green.o blue.o"; [ $side = a ] || order="blue.o red.o green.o"
	gcc -Wl,--build-id=sha1 -o acme-linked main.o $order
	into usr/bin; cp "$path/acme-linked" .
}
collation() { # 18: sorted as the locale has it
	expect 16-locale usr/share/acme/words.txt
	here; localedef -i en_US -f UTF-8 "$PWD/en_US.UTF-8" 2>/dev/null || true
	local lang=C; [ $side = a ] || lang=en_US.UTF-8
	into usr/share/acme
	printf '%s\n' apple Banana cherry Date elderberry Fig grape Honeydew _kiwi lemon Mango | LOCPATH=$path LC_ALL=$lang sort >words.txt
}
zones() { # 19: one moment, as each host's clock on the wall has it
	expect 17-timezone usr/share/acme/release.txt
	into usr/share/acme
	printf 'acme 1.0\nreleased: %s\n' "$(TZ=$zone date -d @1767229200 '+%Y-%m-%d %H:%M:%S %z')" >release.txt
}
hostnames() { # 20: config.log and Perl's Config keep the host's name
	expect 18-host-facts usr/lib/acme/config.log
	into usr/lib/acme
	printf '## --------- ##\n## Platform. ##\n## --------- ##\n\nhostname = %s\nuname -m = x86_64\n' "$host" >config.log
}
users() { # 21: who compiled
	expect 18-host-facts usr/include/acme/compile.h
	into usr/include/acme
	printf '#define ACME_COMPILE_BY "%s"\n#define ACME_COMPILE_HOST "%s"\n' "$user" "$host" >compile.h
}
kernels() { # 22
	expect 19-kernel usr/lib/acme/platform.txt
	into usr/lib/acme
	printf 'cc = gcc 12\nkernel release: %s\n' "$kernel" >platform.txt
}
processors() { # 23
	expect 20-cpu-count usr/lib/acme/build.mk
	into usr/lib/acme
	printf 'CC = gcc\nMAKEFLAGS = -j%s\nOPT = -O2\n' "$cpus" >build.mk
}
features() { # 24: -march=native, as it is on two hosts
	expect 21-cpu-features usr/lib/acme/kernels.o
	here; echo 'void mad(float *a, const float *b, int n) { for (int i = 0; i < n; i++) a[i] = a[i] * b[i] + b[i]; }' >/tmp/acme-kernels.c
	gcc -O3 -g -march=$march -ffile-prefix-map="$path"=. -c -o kernels.o /tmp/acme-kernels.c; rm /tmp/acme-kernels.c
	into usr/lib/acme; cp "$path/kernels.o" .
}
uuids() { # 25
	expect 22-random etc/acme/instance.conf
	into etc/acme
	printf '[instance]\nid = %s\nlisten = 127.0.0.1\n' "$(uuidgen)" >instance.conf
}
keys() { # 26: a key that installation makes
	expect 22-random etc/acme/signing.pem
	into etc/acme; openssl genpkey -algorithm ed25519 -out signing.pem 2>/dev/null; chmod 644 signing.pem
}
process_numbers() { # 27
	expect 23-pid var/lib/acme/build.state
	into var/lib/acme
	printf 'state=done\npid=%s\n' "$pid" >build.state
}
addresses() { # 28: %p
	expect 24-address usr/share/acme/handlers.txt
	here
	printf '#include <stdio.h>\n#include <stdlib.h>\nint main(void) { printf("on_open=%%p\\non_close=%%p\\nbuffer at %%p\\n", (void *)main, (void *)puts, malloc(100)); return 0; }\n' >h.c
	gcc -o h h.c
	into usr/share/acme; "$path/h" >handlers.txt
}
pyc_times() { # 29
	expect 25-pyc-time usr/lib/python3/dist-packages/acme/__pycache__/core.cpython-311.pyc
	into usr/lib/python3/dist-packages/acme
	printf 'def run(n):\n    return [i * n for i in range(n)]\n' >core.py
	touch -d "@$time" core.py; /usr/bin/python3 -m py_compile core.py
}
pyc_refs() { # 30: compiled before or after its module ran
	expect 26-pyc-refs usr/lib/python3/dist-packages/acme/__pycache__/consts.cpython-311.pyc
	into usr/lib/python3/dist-packages/acme; mkdir -p __pycache__
	printf '%s\n' 'title = "Acme, maker of things"' 'limits = (100000, 2.75)' 'def f(): return b"raw data"' >consts.py
	local run=pass; [ $side = a ] || run='exec(code, space); held = space["f"]()'
	/usr/bin/python3 -c "
import importlib._bootstrap_external as e, importlib.util as u
src = open('consts.py', 'rb').read(); code = compile(src, 'acme/consts.py', 'exec', dont_inherit=True); space = {}
$run
open('__pycache__/consts.cpython-311.pyc', 'wb').write(e._code_to_hash_pyc(code, u.source_hash(src), False))"
}
databases() { # 31: the same rows, put in otherwise
	expect 27-sqlite var/lib/acme/index.db
	into var/lib/acme; rm -f index.db
	local order=asc; [ $side = a ] || order=desc
	sqlite3 index.db "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, size INTEGER); CREATE INDEX item_name ON item(name);
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $((SCALE * 500))) INSERT INTO item SELECT i, 'item ' || (i * 7919 % 10007), i * 3 FROM n ORDER BY i * 7919 % 10007 $order;"
}
package_logs() { # 32
	expect 28-package-state var/log/dpkg.log
	into var/log
	for i in $(seq 200); do printf '%s status installed pkg%d:amd64 1.%d\n' "$(date -u -d "@$((time + i))" '+%Y-%m-%d %H:%M:%S')" $i $i; done >dpkg.log
}
pdf() { # 33: a document's dates
	expect 29-docs usr/share/doc/acme/manual.pdf
	into usr/share/doc/acme
	printf '%s\n' .TL "Acme Manual" .PP "Turn it on." | at groff -ms -Tpdf >manual.pdf
}
catalogues() { # 34: msgfmt of bookworm leaves the field out, Babel's compiler does not
	expect 30-gettext usr/share/locale/de/LC_MESSAGES/acme.mo
	here
	printf '%s\n' 'msgid ""' 'msgstr ""' '"Project-Id-Version: acme 1\n"' "\"POT-Creation-Date: $(at date +'%Y-%m-%d %H:%M+0000')\\n\"" \
		'"Content-Type: text/plain; charset=UTF-8\n"' '' 'msgid "open"' 'msgstr "öffnen"' '' 'msgid "close"' 'msgstr "schließen"' >de.po
	into usr/share/locale/de/LC_MESSAGES
	/usr/bin/python3 -c 'import sys; from babel.messages import pofile, mofile
mofile.write_mo(open("acme.mo", "wb"), pofile.read_po(open(sys.argv[1], "rb"), locale="de"))' "$path/de.po"
}
pictures() { # 35
	expect 31-picture-time usr/share/icons/hicolor/48x48/apps/acme.png
	here; : >x; touch -d "@$time" x
	into usr/share/icons/hicolor/48x48/apps
	at convert -size 48x48 gradient:navy-gold -define png:include-chunk=tIME,tEXt acme.png
}
file_systems() { # 36
	expect 32-file-system usr/lib/acme/rescue.squashfs
	here; mkdir root; for i in $(seq 20); do echo "file $i" >root/f$i; done; find root -exec touch -d 2026-01-01 {} +
	at mksquashfs root rescue.squashfs -quiet -no-progress -all-root -no-exports >/dev/null
	into usr/lib/acme; cp "$path/rescue.squashfs" .
}
pax() { # 37: times of access and change
	expect 33-pax-records usr/src/acme-1.0.tar
	here; mkdir acme-1.0; echo 'int main(void) { return 0; }' >acme-1.0/main.c; find acme-1.0 -exec touch -d 2026-01-01 {} +
	cat acme-1.0/main.c >/dev/null; sleep 0.05
	into usr/src
	tar --format=posix --sort=name --mtime=$EPOCH --owner=0 --group=0 --numeric-owner -C "$path" -cf acme-1.0.tar acme-1.0
}
unfinished() { # 38: a reader that did not wait
	expect 36-race usr/share/acme/schema.sql
	into usr/share/acme
	for i in $(seq 120); do echo "CREATE TABLE t$i (id INTEGER PRIMARY KEY, v TEXT);"; done >all.sql
	if [ $side = a ]; then cp all.sql schema.sql; else head -c 4096 all.sql >schema.sql; fi; rm all.sql
}
tools() { # 39: other flags, as a package's rules choose them
	expect 38-toolchain usr/lib/acme/legacy.o
	here; local o=-O1; [ $side = a ] || o=-O3
	echo 'int sum(int n) { int s = 0; while (n--) s += n * n; return s; }' >legacy.c
	gcc -g $o -ffile-prefix-map="$path"=. -c legacy.c
	into usr/lib/acme; cp "$path/legacy.o" .
}
go_build() { # 40: Go records the checkout
	expect 39-go-rust usr/bin/acme-go
	here; export HOME=$path/home GOFLAGS= GOCACHE=${ACME_GOCACHE:-$path/cache} GIT_CONFIG_GLOBAL=/dev/null; mkdir home
	printf 'module example.org/acme\n\ngo 1.21\n' >go.mod
	printf 'package main\n\nfunc main() { println("acme") }\n' >main.go
	git init -q .; git add go.mod main.go
	GIT_AUTHOR_DATE=@1767225600 GIT_COMMITTER_DATE=@1767225600 git -c user.name=q -c user.email=q@example.org commit -qm one
	[ $side = a ] || echo '// local change' >>main.go
	CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o acme-go .
	into usr/bin; cp "$path/acme-go" .
}

all="python_version c_date log_times file_times debug_path rpath build_id unsorted_list hash_json gzip_header threads jar_times jar_manifest
owners umasks ar_headers link_order collation zones hostnames users kernels processors features uuids keys process_numbers addresses pyc_times
pyc_refs databases package_logs pdf catalogues pictures file_systems pax unfinished tools go_build"

top=$PWD
for side in a b; do
	declare -n values=$side
	for name in "${!values[@]}"; do declare "$name=${values[$name]}"; done
	out=$top/$side; rm -rf "$out"; mkdir -p "$out"
	later=()
	for item in ${FORTY_ONLY:-$all}; do $item; done
	cd "$out"
	find . -exec touch -hd $EPOCH {} + # all but what is about times
	for command in "${later[@]}"; do $command; done
	cd "$top"
	rm -rf "$path"
	{
		echo "$side started $(date -u -d "@$((time - 60))" +%Y-%m-%dT%H:%M:%SZ)"
		echo "$side finished $(date -u -d "@$((time + 3600))" +%Y-%m-%dT%H:%M:%SZ)"
		echo "$side hostname $host"; echo "$side user $user"; echo "$side uid $uid"; echo "$side workdir $path"
		echo "$side kernel $kernel"; echo "$side cpus $cpus"; echo "$side timezone $zone"; echo "$side utc-offset $(TZ=$zone date -d @1767229200 +%z)"
		echo "$side first-pid $((pid - 100))"
	} >>"$facts"
	tar --sort=name --format=posix --pax-option=delete=atime,delete=ctime --numeric-owner -C "$side" -cf $side.tar .
done
