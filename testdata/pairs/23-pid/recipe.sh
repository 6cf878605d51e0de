# A number of a process.
. ../lib.sh
one() {
	sh -c 'echo "lock held by pid $$" >'$side/app.lock
	sh -c 'echo "$$" >'$side/app.pid
	first=$(cat $side/app.pid)
	echo "$side first-pid $((first - 40))" >>facts
}
sh -c true; both one
pack
