# docopt: Python, compiled files and a wheel.
debian=docopt
cheap=yes
expects="10-zip-header 12-owner 13-umask 2-file-time 25-pyc-time 6-file-order"
unpack() { tar -xf "$sources"/docopt_*.orig.tar.gz --strip-components=1 --no-same-owner --no-same-permissions; }
build() {
	/usr/bin/python3 setup.py bdist_wheel -d "$root"
	mkdir -p "$root/usr/lib/python3"; cp -p docopt.py "$root/usr/lib/python3/"
	cd "$root/usr/lib/python3"
	/usr/bin/python3 -m compileall $(mended 25-pyc-time && echo --invalidation-mode unchecked-hash) .
}
