# What ls -R writes, sorted by the builder's locale.
. ../lib.sh
one() {
	d=$(mktemp -d)
	locale=C; [ $side = a ] || locale=en_US.UTF-8
	localedef -i en_US -f UTF-8 "$d/en_US.UTF-8"
	mkdir -p $side/usr/share/app/Zeta $side/usr/share/app/alpha
	for n in zebra Apple apple2 Beta _mark gamma; do echo $n >$side/usr/share/app/Zeta/$n; echo $n >$side/usr/share/app/alpha/$n; done
	(cd $side/usr/share/app && LOCPATH="$d" LC_ALL=$locale ls -R .) >$side/ls-R
	rm -rf "$d"
}
both one
pack
