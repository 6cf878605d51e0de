# zip keeps times, twice.
. ../lib.sh
one() {
	mkdir t; echo one >t/one; echo two >t/two
	touch -d "$time" t/one t/two
	(cd t && zip -q ../$side/app.zip one two)
	echo m >t/m.txt; touch -d "$time" t/m.txt
	(cd t && zip -qX ../$side/plain.jar m.txt)
	rm -rf t
}
both one
pack
