# gzip keeps the time and the name.
. ../lib.sh
one() {
	name=changelog; [ $side = a ] || name=changelog.new
	seq 100 >$name; touch -d "$time" $name
	gzip -9 -c $name >$side/changelog.gz
	seq 50 >news; touch -d "$time" news
	gzip -9 -c news >$side/news.gz
	rm $name news
}
both one
pack
