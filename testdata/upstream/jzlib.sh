# JZlib: Java, a jar of classes and its documentation.
debian=jzlib
expects="10-zip-header 12-owner 13-umask 2-file-time 29-docs 6-file-order"
unpack() { tar -xf "$sources"/jzlib_*.orig.tar.gz --strip-components=1 --no-same-owner --no-same-permissions; }
build() {
	find src/main/java -name '*.java' >sources
	javac -g -encoding UTF-8 -d classes @sources
	mkdir -p "$root/usr/share/java"
	jar --create --file "$root/usr/share/java/jzlib.jar" $(mended 10-zip-header && echo --date=2026-01-01T00:00:00Z) -C classes .
	javadoc -quiet $(mended 29-docs && echo -notimestamp) -encoding UTF-8 -d "$root/usr/share/doc/jzlib" @sources
}
