# The time in a picture.
. ../lib.sh
one() {
	touch -d "$time" x; at "$time" convert -size 16x16 gradient:red-blue -define png:include-chunk=tIME,tEXt $side/logo.png; rm x
}
both one
pack
