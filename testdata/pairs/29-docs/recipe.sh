. ../lib.sh
one() {
	printf "%s\n" "One page." | at "$time" groff -Tpdf >$side/manual.pdf
	mkdir src; echo '/** One. */ public class One { }' >src/One.java
	at "$time" javadoc -J-Xint -quiet -Xdoclint:none -d doc src/One.java >/dev/null 2>&1
	cp doc/One.html $side/; rm -rf src doc
}
both one
pack
