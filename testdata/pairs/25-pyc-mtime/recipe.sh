# The source's time in a compiled Python file.
. ../lib.sh
one() {
	mkdir -p $side/lib/__pycache__; echo 'def f(): return 1' >$side/lib/m.py; touch -d "$time" $side/lib/m.py
	(cd $side && /usr/bin/python3 -m compileall -q --invalidation-mode timestamp lib)
}
both one
pack
