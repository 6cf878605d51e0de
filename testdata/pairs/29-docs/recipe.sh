# Documents: a PDF, a man page of help2man.
. ../lib.sh
one() {
	printf "%s\n" "One page." | at "$time" groff -Tpdf >$side/manual.pdf
	printf '#!/bin/sh\n[ "$1" = --version ] && echo "tool 1.0" || echo "Usage: tool [--version]"\n' >tool; chmod +x tool
	at "$time" help2man -N -n 'does things' ./tool >$side/tool.1
	rm tool
	mkdir src; echo '/** One. */ public class One { }' >src/One.java
	at "$time" javadoc -J-Xint -quiet -Xdoclint:none -d doc src/One.java >/dev/null 2>&1
	cp doc/One.html $side/; rm -rf src doc
}
both one
pack
