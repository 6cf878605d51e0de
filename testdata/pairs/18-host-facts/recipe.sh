# Host name, user and home, plain and dressed up.
. ../lib.sh
one() {
	user=anna; [ $side = a ] || user=bent
	{ echo "host=$(host $host hostname)"; echo "builder=$user@$(host $host hostname)"; echo "home=/home/$user"; } >$side/buildinfo
	host $host hostname | tr -d '\n' | base64 >$side/token.b64
	host $host hostname | tr a-z- A-Z_ >$side/macro.h
	host $host hostname | iconv -t UTF-16LE >$side/name.u16
	host $host hostname | tr -d '\n' | od -An -tx1 | tr -d ' \n' >$side/name.hex
}
both one
pack
printf 'a user anna\na home /home/anna\nb user bent\nb home /home/bent\n' >facts
