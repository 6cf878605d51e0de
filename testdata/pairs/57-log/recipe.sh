# A log that a tool left beside what it made: times in all lines, and not as many lines.
. ../lib.sh
one() {
	n=5; [ $side = a ] || n=9
	at "$time" python3 - $side/app.log $n <<-'END'
	import logging, sys
	logging.basicConfig(filename=sys.argv[1], level=logging.INFO, format='%(asctime)s %(levelname)s %(message)s')
	for i in range(int(sys.argv[2])):
	    logging.info('waiting for the compiler, attempt %d', i + 1)
	logging.info('compiled')
	END
	echo 'int main(void) { return 0; }' >$side/main.c
}
both one
pack
