# A compiled Python file, written before or after its module ran: who else holds a constant shows as a bit.
. ../lib.sh
one() {
	mkdir -p $side/lib/__pycache__
	printf '%s\n' 'greeting = "hello, dear world"' 'pair = (1000, 2000.5)' 'def f(): return b"some bytes"' >$side/lib/m.py
	run=pass; [ $side = a ] || run='exec(code, space); held = space["f"]()'
	/usr/bin/python3 -c "
import importlib._bootstrap_external as b, importlib.util as u
src = open('$side/lib/m.py', 'rb').read(); code = compile(src, 'lib/m.py', 'exec', dont_inherit=True); space = {}
$run
open('$side/lib/__pycache__/m.cpython-311.pyc', 'wb').write(b._code_to_hash_pyc(code, u.source_hash(src), False))"
}
both one
pack
