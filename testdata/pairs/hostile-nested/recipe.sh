# Depth: archives in archives, JSON in a thousand brackets.
. ../lib.sh
mkdir -p a b
one() {
	echo $side >x
	for i in $(seq 40); do tar --format=ustar --mtime=@0 --owner=0 --group=0 -b1 -cf y x; gzip -nc y >x; done
	mv x $side/deep.tar.gz; rm y
	head -c 100000 /dev/zero | tr '\0' '[' >$side/deep.json; echo $side >>$side/deep.json
}
both one
pack
