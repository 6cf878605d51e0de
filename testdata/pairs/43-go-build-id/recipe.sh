# Go's build id is of the sources: another comment, the same code, another id, and the linker's id follows.
. ../lib.sh
# A whole program is a megabyte: only the two notes are kept.
one() {
	export HOME=$PWD/home GOFLAGS= GOCACHE=$PWD/cache; mkdir -p $HOME "$path"
	(cd "$path" && printf 'module example.org/q\n\ngo 1.21\n' >go.mod && printf 'package main\n\nfunc main() {}\n// %s\n' $side >main.go && go build -trimpath -buildvcs=false -o q .)
	objcopy --only-section=.note.go.buildid --only-section=.note.gnu.build-id "$path/q" $side/q
	rm -rf "$path" home
}
both one
chmod -R u+w cache; rm -rf cache
pack
