# What was made up: a UUID, a name for a temporary file, a key.
. ../lib.sh
one() {
	uuidgen >$side/id.txt
	t=$(mktemp /tmp/tmp.XXXXXXXXXX); echo "from $t" >$side/from.txt; rm $t
	ssh-keygen -q -t ed25519 -N '' -C root@image -f $side/ssh_host_ed25519_key; rm $side/ssh_host_ed25519_key
	head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n' >$side/machine-id
}
both one
pack
