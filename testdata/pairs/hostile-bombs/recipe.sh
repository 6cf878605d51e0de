# A gigabyte of zeros in a few kilobytes, twice packed.
. ../lib.sh
mkdir -p a b
head -c 1000000000 /dev/zero | gzip -n9 | gzip -n9 >a/bomb.gz.gz
head -c 1000000001 /dev/zero | gzip -n9 | gzip -n9 >b/bomb.gz.gz
head -c 1000000000 /dev/zero | xz -T1 >x.xz; gzip -nc x.xz >a/bomb.xz.gz; printf '\0' | cat x.xz - | gzip -n >b/bomb.xz.gz; rm x.xz
pack
