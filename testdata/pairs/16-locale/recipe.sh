# Sorted, but by other rules.
. ../lib.sh
one() {
	mkdir -p loc; [ -d loc/en_US.UTF-8 ] || localedef -i en_US -f UTF-8 "$PWD/loc/en_US.UTF-8"
	lang=C; [ $side = a ] || lang=en_US.UTF-8
	printf '%s\n' Makefile README alpha.c Beta.c gamma.c Zeta.h _init.c >names
	LOCPATH=$PWD/loc LC_ALL=$lang sort names >$side/files.txt
	rm names
}
both one
rm -rf loc
pack
printf 'a locale C\nb locale en_US.UTF-8\n' >facts
