# One moment, two zones.
. ../lib.sh
one() {
	zone=UTC; [ $side = a ] || zone=Asia/Kolkata
	TZ=$zone date -d @1767225600 +'%Y-%m-%d %H:%M:%S' >$side/stamp.txt
	echo x >x; touch -d @1767225600 x
	TZ=$zone zip -qX $side/x.zip x
	rm x
}
both one
pack
printf 'a timezone UTC\nb timezone Asia/Kolkata\nb utc-offset +0530\n' >facts
