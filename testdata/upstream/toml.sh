# tomlv, of BurntSushi/toml: Go.
debian=golang-toml
expects="12-owner 13-umask 2-file-time 3-build-path"
unpack() { tar -xf "$sources"/golang-toml_*.orig.tar.xz --strip-components=1 --no-same-owner --no-same-permissions; }
build() {
	mkdir -p "$root/usr/bin"
	GOTOOLCHAIN=local CGO_ENABLED=0 go build -o "$root/usr/bin/tomlv" ./cmd/tomlv
}
