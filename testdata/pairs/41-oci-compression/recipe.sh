# Equal layers, packed by other hands.
. ../lib.sh
mkdir root; seq 2000 >root/numbers
tar --format=ustar --sort=name --mtime=@1767225600 --owner=0 --group=0 --numeric-owner -b1 -C root -cf layer.tar numbers
one() {
	level=-6; [ $side = a ] || level=-9
	gzip -n $level -c layer.tar >layer.gz
	diff_id=$(sha256sum <layer.tar | cut -d' ' -f1); mkdir -p $side/image/blobs/sha256
	put() { d=$(sha256sum <$1 | cut -d' ' -f1); s=$(stat -c %s $1); mv $1 $side/image/blobs/sha256/$d; }
	put layer.gz; layer="{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+gzip\",\"digest\":\"sha256:$d\",\"size\":$s}"
	printf '{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' $diff_id >c
	put c; printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:%s","size":%s},"layers":[%s]}' $d $s "$layer" >m
	put m; printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%s}]}' $d $s >$side/image/index.json
	printf '{"imageLayoutVersion":"1.0.0"}' >$side/image/oci-layout
}
both one
rm -rf root layer.tar
pack
