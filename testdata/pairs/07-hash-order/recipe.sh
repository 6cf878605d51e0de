# The order of a hash: Python's set, Perl's hash, JSON of it.
. ../lib.sh
one() {
	seed=1; [ $side = a ] || seed=2
	PYTHONHASHSEED=$seed python3 -c 'print(" ".join({"red", "green", "blue", "black", "white"}))' >$side/colours.txt
	PERL_HASH_SEED=$seed PERL_PERTURB_KEYS=2 perl -e 'my %h = map { $_ => 1 } qw(cc cflags libs prefix sysroot); print "{", join(", ", map { "\"$_\": 1" } keys %h), "}\n"' >$side/config.json
	PERL_HASH_SEED=$seed PERL_PERTURB_KEYS=2 perl -e 'my %h = map { $_ => length } qw(cc cflags libs prefix sysroot); print "$_=$h{$_}\n" for keys %h' >$side/config.properties
}
both one
pack
