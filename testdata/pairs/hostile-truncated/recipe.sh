# Every kind of container, whole on one side and cut short on the other.
. ../lib.sh
mkdir -p a b
seq 500 >t; gzip -nk t; xz -k t; zstd -q t; zip -qX t.zip t; tar --format=ustar -cf t.tar t; gcc -xc -c -o t.o - </dev/null; ar crD t.a t.o
sqlite3 t.db 'CREATE TABLE t(a); INSERT INTO t VALUES (1);'
for f in t.gz t.xz t.zst t.zip t.tar t.o t.a t.db; do
	cp $f a/; head -c $(($(stat -c %s $f) * 2 / 3)) $f >b/$f
done
rm t t.*
pack
