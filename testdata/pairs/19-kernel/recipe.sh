# The kernel that ran the build.
. ../lib.sh
one() {
	k="uname"; [ $side = a ] || k="setarch --uname-2.6 uname"
	$k -r >$side/kernel.txt
	echo "#define KERNEL \"Linux $($k -r) x86_64\"" >$side/config.h
	echo "$side kernel $($k -r)" >>facts
}
both one
pack
