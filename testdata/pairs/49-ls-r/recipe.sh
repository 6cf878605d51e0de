# What ls -R writes when it does not sort, as TeX's mktexlsr has it: var/lib/texmf/ls-R.
. ../lib.sh
one() {
	d=$(mktemp -d /dev/shm/order-XXXXXX)
	folders="tex/generic/config tex/latex/config web2c/pdftex web2c/luahbtex dvips/config"
	names="README modes.mf language.dat texsys.cfg pdftex.map config.ps"
	[ $side = a ] || { folders=$(printf '%s\n' $folders | tac); names=$(printf '%s\n' $names | tac); }
	for f in $folders; do
		mkdir -p "$d/$f"
		for n in $names; do echo "$f $n" >"$d/$f/$n"; done
	done
	mkdir -p $side/var/lib
	cp -r "$d" $side/var/lib/texmf
	(echo '% ls-R -- filename database for kpathsea; do not change this line.'; cd "$d"; ls -LARU ./) >$side/var/lib/texmf/ls-R
	rm -rf "$d"
}
both one
pack
