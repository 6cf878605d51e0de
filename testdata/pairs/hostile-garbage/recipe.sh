# Magic numbers with nothing behind them.
. ../lib.sh
mkdir -p a b
i=0
for magic in '\177ELF\002\001\001' 'PK\003\004' 'PK\005\006' '\037\213\010' '\3757zXZ\000' '\050\265\057\375' 'BZh9' '!<arch>\n' '\211PNG\r\n\032\n' '%%PDF-1.7\n' 'SQLite format 3\000' '\312\376\272\276' 'hsqs' '\336\022\004\225' '070701' '\247\r\r\n' '{' '<?xml '; do
	i=$((i + 1))
	for side in a b; do { printf "$magic"; printf '%s-%s' $side $i | sha512sum | tr -d ' -\n' | tr 0-9a-f '\000-\017'; printf '%s%s' $i $side | sha256sum -b | head -c 60 | tr 0-9a-f '\377\376\000\001\200\177\040-\051'; } >$side/$i; done
done
pack
