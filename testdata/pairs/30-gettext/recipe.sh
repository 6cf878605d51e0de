# A translation catalogue and the time of its template.
. ../lib.sh
# msgfmt of bookworm leaves the field out; Babel's compiler does not.
one() {
	mkdir -p l
	cat >l/de.po <<-P
	msgid ""
	msgstr ""
	"Project-Id-Version: q 1\\n"
	"POT-Creation-Date: $(at "$time" date +'%Y-%m-%d %H:%M+0000')\\n"
	"Language: de\\n"
	"Content-Type: text/plain; charset=UTF-8\\n"

	msgid "hello"
	msgstr "hallo"
	P
	/usr/bin/python3 -c 'import sys; from babel.messages import pofile, mofile
c = pofile.read_po(open("l/de.po", "rb"), locale="de"); mofile.write_mo(open(sys.argv[1], "wb"), c)' $side/de.mo
	rm -rf l
}
both one
pack
