# Sizes that lie: zip, ar, tar, cpio headers of terabytes.
. ../lib.sh
mkdir -p a b; echo x >x
zip -q x.zip x; echo x | cpio -o -H newc --quiet >x.cpio; ar crD x.a x; tar --format=ustar -cf x.tar x
for f in x.zip x.cpio x.a x.tar; do cp $f a/; cp $f b/; done
poke() { printf "$3" | dd of=$1 bs=1 seek=$2 conv=notrunc status=none; }
poke b/x.zip 18 '\377\377\377\377\377\377\377\177'
poke b/x.cpio 54 '7FFFFFFF'
poke b/x.a 56 '9999999999'
poke b/x.tar 124 '77777777777'
rm x x.*
pack
