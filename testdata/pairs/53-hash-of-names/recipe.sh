# Names of files in the order of a hash: they are keys and values there, or some of many in a folder, or none of files.
# TeX's language.def is of that kind: Debian's update-language writes it in the order of a Perl hash.
. ../lib.sh
one() {
	mkdir -p $side/usr/share/app/icons $side/usr/share/doc
	for n in red green blue black white grey; do echo $n >$side/usr/share/app/icons/$n.svg; done
	for n in bash coreutils dash findutils grep gzip hostname sed tar util-linux perl-base libc6; do mkdir $side/usr/share/doc/$n; echo $n >$side/usr/share/doc/$n/copyright; done
	seed=1; [ $side = a ] || seed=2
	export PERL_HASH_SEED=$seed PERL_PERTURB_KEYS=2 PYTHONHASHSEED=$seed
	perl -e 'my %h = map { $_ => "$_.svg" } qw(red green blue black white grey); print "$_=$h{$_}\n" for keys %h' >$side/icons.properties
	perl -MJSON::PP -e 'print JSON::PP->new->indent->encode({map { ("icons/$_.svg" => 1) } qw(red green blue black white grey)})' >$side/icons.json
	mkdir -p $side/usr/share/texmf
	for n in german ngerman latin welsh dutch; do echo $n >$side/usr/share/texmf/loadhyph-$n.tex; done
	perl -e 'my %h = map { $_ => "loadhyph-$_.tex" } qw(german ngerman latin welsh dutch); print "\\addlanguage{$_}{$h{$_}}{}{2}{3}\n" for keys %h' >$side/language.def
	perl -e 'my %h = map { $_ => "loadhyph-$_.tex" } qw(german ngerman latin welsh dutch); print "$_ $h{$_}\n=use$_\n" for keys %h' >$side/language.dat
	python3 -c 'print("\n".join({"bash", "dash", "grep", "gzip", "sed"}))' >$side/essential
	python3 -c 'print("\n".join({"the red one", "the green one", "the blue one", "the black one"}))' >$side/words
}
both one
pack
