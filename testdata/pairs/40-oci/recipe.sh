# An image whose documents say when they were made.
. ../lib.sh
one() {
	mkdir -p t; l=oci-$side
	umoci init --layout $l; umoci new --image $l:q
	at "$time" umoci config --image $l:q --created "$(date -d "$time" +%Y-%m-%dT%H:%M:%SZ)" --config.env "RUN_ID=$(at "$time" date +%s)" --author anna \
		--history.created "$(date -d "$time" +%Y-%m-%dT%H:%M:%SZ)"
	umoci gc --layout $l
	rm -rf t $side; mkdir $side; mv $l $side/image
}
both one
pack
