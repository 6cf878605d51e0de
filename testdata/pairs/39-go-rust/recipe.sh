# What Go and Rust know of the folder and the checkout.
. ../lib.sh
# Whole programs are a megabyte each: only the sections that tell are kept.
one() {
	export HOME=$PWD/home GOFLAGS= GOCACHE=$PWD/cache GIT_CONFIG_GLOBAL=/dev/null; mkdir -p $HOME "$path"
	(cd "$path" && printf 'module example.org/q\n\ngo 1.21\n' >go.mod && printf 'package main\n\nfunc main() {}\n' >main.go && git init -q . && git add -A &&
		GIT_AUTHOR_DATE=@1767225600 GIT_COMMITTER_DATE=@1767225600 git -c user.name=q -c user.email=q@example.org commit -qm q)
	[ $side = a ] || echo '// changed' >>"$path/main.go"
	(cd "$path" && go build -o q .)
	objcopy --only-section=.go.buildinfo --only-section=.note.go.buildid "$path/q" $side/q
	echo 'pub fn two() -> u32 { 2 }' >"$path/lib.rs"
	rm -rf "$path" home
}
both one
chmod -R u+w cache; rm -rf cache
pack
