package definition

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

// base uses every field once; tests change a word of it.
const base = `apiVersion: quorate/v1
name: greeter
platforms: [linux/amd64, linux/arm/v7]
epoch: 2026-11-01T01:00:00+01:00
inputs:
  debian:
    suite: bookworm
    components: [main, contrib]
    pockets: [security]
    signed-by: [keys/debian.asc]
  local:
    app: {path: ./app/}
  files:
    logo: {url: "https://example.org/logo.tar.gz", unpack: true}
    font: {url: "http://localhost:8080/font"}
steps:
  - name: fetch-deps
    run: echo
  - name: compile
    packages: [gcc, "libc6-dev:arm64", "make=4.3-4.1"]
    inputs: [app, fetch-deps]
    run: |
      make -C /inputs/app
    env: {V: "1", CFLAGS: -O2}
    limits: {time: 10m, memory: 512MiB, processes: 100, disk: 2GiB}
image:
  packages: [nginx]
  scripts: none
  essential: true
  without: [debconf]
  copy:
    - {from: compile, path: /usr/, to: /opt, owner: "10:20", mode: 0644}
    - {from: logo, to: /logo, mode: "0755"}
  accounts:
    users:
      - {name: app, uid: 1000}
      - {name: web, uid: 1001, gid: 50, home: /srv, shell: /bin/sh}
    groups: [{name: web, gid: 50, members: [app]}]
    run-as: app
  config:
    entrypoint: [/usr/bin/greeter, "8"]
    cmd: [-v]
    env: {B: x, A: "y"}
    working-dir: /srv
    labels: {org.opencontainers.image.title: greeter}
    ports: [443, 53/udp, "80"]
    volumes: [/var/log, /data/]
    stop-signal: SIGQUIT
  layers: single
`

func TestParse(t *testing.T) {
	got, err := Parse("quorate.yaml", []byte(base))
	if err != nil {
		t.Fatal(err)
	}
	want := &Definition{
		APIVersion: "quorate/v1", Name: "greeter",
		Platforms: []Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm", Variant: "v7"}},
		Epoch:     Epoch{Time: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)},
		Inputs: Inputs{
			Debian: &Debian{Suite: "bookworm", Components: []string{"main", "contrib"}, Pockets: []string{"security"}, SignedBy: []string{"keys/debian.asc"}},
			Local:  []Local{{Name: "app", Path: "app"}},
			Files:  []File{{Name: "font", URL: "http://localhost:8080/font"}, {Name: "logo", URL: "https://example.org/logo.tar.gz", Unpack: true}},
		},
		Steps: []Step{
			{Name: "fetch-deps", Run: "echo"},
			{
				Name: "compile", Packages: []string{"gcc", "libc6-dev:arm64", "make=4.3-4.1"}, Inputs: []string{"app", "fetch-deps"},
				Run: "make -C /inputs/app\n", Env: []Var{{"CFLAGS", "-O2"}, {"V", "1"}},
				Limits: Limits{Time: 10 * time.Minute, Memory: 512 << 20, Processes: 100, Disk: 2 << 30},
			},
		},
		Image: Image{
			Packages: []string{"nginx"}, Scripts: ScriptsNone, Essential: true, Without: []string{"debconf"},
			Copy: []Copy{{From: "compile", Path: "/usr", To: "/opt", Owner: "10:20", Mode: 0o644}, {From: "logo", Path: "/", To: "/logo", Owner: "0:0", Mode: 0o755}},
			Accounts: Accounts{
				Users: []User{
					{Name: "app", UID: 1000, GID: 1000, Home: "/nonexistent", Shell: "/usr/sbin/nologin"},
					{Name: "web", UID: 1001, GID: 50, Home: "/srv", Shell: "/bin/sh"},
				},
				Groups: []Group{{Name: "web", GID: 50, Members: []string{"app"}}},
				RunAs:  "app",
			},
			Config: Config{
				Entrypoint: []string{"/usr/bin/greeter", "8"}, Cmd: []string{"-v"}, Env: []Var{{"A", "y"}, {"B", "x"}}, WorkingDir: "/srv",
				Labels: []Var{{"org.opencontainers.image.title", "greeter"}}, ExposedPorts: []string{"443/tcp", "53/udp", "80/tcp"},
				Volumes: []string{"/data", "/var/log"}, StopSignal: "SIGQUIT",
			},
			Layers: LayersSingle,
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

const minimal = `apiVersion: quorate/v1
name: base
platforms: [linux/amd64]
epoch: commit
`

func TestDefaults(t *testing.T) {
	tests := []struct {
		summary, text string
		check         func(*Definition) bool
	}{
		{"no inputs at all", "image: {}\n", func(d *Definition) bool {
			return d.Inputs.Debian == nil && d.Image.Scripts == ScriptsDpkg && !d.Image.Essential && d.Image.Layers == LayersGrouped && d.Epoch.FromCommit && d.Epoch.Time.IsZero()
		}},
		{"the Essential set comes with scripts", "inputs: {debian: {suite: trixie}}\nimage: {packages: [dash]}\n", func(d *Definition) bool {
			return d.Image.Essential && reflect.DeepEqual(*d.Inputs.Debian, Debian{Suite: "trixie", Components: []string{"main"}, Pockets: []string{"updates", "security"}})
		}},
		{"and not without them", "inputs: {debian: {suite: trixie}}\nimage: {scripts: none}\n", func(d *Definition) bool { return !d.Image.Essential }},
		{"unless asked for", "inputs: {debian: {suite: trixie}}\nimage: {scripts: none, essential: true}\n", func(d *Definition) bool { return d.Image.Essential }},
		{"or against", "inputs: {debian: {suite: trixie}}\nimage: {essential: false}\n", func(d *Definition) bool { return !d.Image.Essential }},
		{"no pockets", "inputs: {debian: {suite: trixie, pockets: []}}\nimage: {}\n", func(d *Definition) bool { return len(d.Inputs.Debian.Pockets) == 0 }},
		{"gid 0 is said, not left out", "image: {accounts: {users: [{name: a, uid: 7, gid: 0}]}}\n", func(d *Definition) bool { return d.Image.Accounts.Users[0].GID == 0 }},
		{"run as root", "image: {accounts: {run-as: root}}\n", func(d *Definition) bool { return d.Image.Accounts.RunAs == "root" }},
		{"CR LF", "image: {}\r\n", func(d *Definition) bool { return true }},
	}
	for _, test := range tests {
		d, err := Parse("quorate.yaml", []byte(minimal+test.text))
		if err != nil {
			t.Errorf("%s: %v", test.summary, err)
		} else if !test.check(d) {
			t.Errorf("%s: got %+v", test.summary, d)
		}
	}
	// What one parse filled in, another does not share.
	one, _ := Parse("a", []byte(minimal+"inputs: {debian: {suite: trixie}}\nimage: {}\n"))
	one.Inputs.Debian.Components[0] = "changed"
	two, _ := Parse("b", []byte(minimal+"inputs: {debian: {suite: trixie}}\nimage: {}\n"))
	if two.Inputs.Debian.Components[0] != "main" {
		t.Error("definitions share their defaults")
	}
}

// Each change of one word of base, and all the complaints about it.
func TestParseRefuses(t *testing.T) {
	longName := strings.Repeat("a", 129)
	tests := []struct{ summary, old, new, want string }{
		{"other version", "quorate/v1", "quorate/v2", `1:13: apiVersion cannot be "quorate/v2", only "quorate/v1"; did you mean "quorate/v1"?`},
		{"no version", "apiVersion: quorate/v1\n", "", `1:1: missing field "apiVersion"`},
		{"upper-case name", "name: greeter", "name: Greeter", `2:7: "Greeter" is not a name: lower-case letters and digits, with single ".", "_" or "-" between them, at most 128`},
		{"name with a slash", "name: greeter", "name: a/b", `2:7: "a/b" is not a name: lower-case letters and digits, with single ".", "_" or "-" between them, at most 128`},
		{"long name", "name: greeter", "name: " + longName, `2:7: "` + strings.Repeat("a", 79) + `…" is not a name: lower-case letters and digits, with single ".", "_" or "-" between them, at most 128`},
		{"name that is a number", "name: greeter", "name: 1.5", `2:7: name is text, but YAML reads 1.5 as a number; quote it: "1.5"`},
		{"name that is a boolean in Norway", "name: greeter", "name: no", `2:7: name is text, but YAML reads no as true or false; quote it: "no"`},
		{"platform with a slip", "linux/amd64", "linux/amd46", `3:13: unknown platform "linux/amd46"; did you mean "linux/amd64"?`},
		{"platform of another world", "linux/amd64", "windows/pdp11", `3:13: unknown platform "windows/pdp11"; known are linux/amd64, linux/arm64, linux/arm/v7, linux/arm/v5, linux/386, linux/mips64le, linux/ppc64le, linux/riscv64, linux/s390x`},
		{"platform twice", "linux/arm/v7", "linux/amd64", `3:26: platform "linux/amd64" is listed twice; first on line 3`},
		{"no platform", "[linux/amd64, linux/arm/v7]", "[]", `3:12: platforms must not be empty`},
		{"epoch without zone", "2026-11-01T01:00:00+01:00", "2026-11-01", `4:8: epoch "2026-11-01" is neither a time like 2026-11-01T00:00:00Z nor "commit"`},
		{"epoch too old", "2026-11-01T01:00:00+01:00", "1979-12-31T23:59:59Z", `4:8: epoch 1979-12-31T23:59:59Z is before 1980-01-01, which zip files cannot write`},
		{"epoch with a part of a second", "2026-11-01T01:00:00+01:00", "2026-11-01T01:00:00.5Z", `4:8: epoch 2026-11-01T01:00:00.5Z has a part of a second; SOURCE_DATE_EPOCH counts whole seconds`},
		{"epoch from git, misspelt", "2026-11-01T01:00:00+01:00", "git", `4:8: epoch "git" is neither a time like 2026-11-01T00:00:00Z nor "commit"`},
		{"epoch yes", "2026-11-01T01:00:00+01:00", "true", `4:8: epoch cannot be true`},
		{"suite with a slip", "suite: bookworm", "suite: bookwrom", `7:12: inputs.debian.suite cannot be "bookwrom", only "bookworm" or "trixie"; did you mean "bookworm"?`},
		{"no suite", "    suite: bookworm\n", "", `7:5: missing field "suite" in inputs.debian`},
		{"component with a slip", "contrib]", "contribs]", `8:24: inputs.debian.components[1] cannot be "contribs", only "main", "contrib", "non-free" or "non-free-firmware"; did you mean "contrib"?`},
		{"no component", "[main, contrib]", "[]", `8:17: inputs.debian.components must not be empty`},
		{"pocket twice", "[security]", "[security, security]", `9:25: pocket "security" is listed twice; first on line 9`},
		{"key outside", "keys/debian.asc", "/etc/debian.asc", `10:17: path "/etc/debian.asc" is absolute; write it relative to the definition`},
		{"tree outside", "./app/", "../app", `12:17: path "../app" leaves the folder of the definition ("..")`},
		{"tree outside in disguise", "./app/", "app/../../x", `12:17: path "app/../../x" leaves the folder of the definition ("..")`},
		{"tree outside on Windows", "./app/", `app\..\..\x`, `12:17: path "app\\..\\..\\x" leaves the folder of the definition ("..")`},
		{"drive", "./app/", `"C:/app"`, `12:17: path "C:/app" is absolute; write it relative to the definition`},
		{"home", "./app/", `~/app`, `12:17: path "~/app": ~ is not expanded; write it relative to the definition`},
		{"NUL in a path", "./app/", `"a\0b"`, `12:17: inputs.local.app.path contains a NUL character`},
		{"line end in a path", "./app/", `"a\nb"`, `12:17: path "a\nb" contains a control character`},
		{"empty path", "./app/", `""`, `12:17: the path is empty; write . for the folder of the definition`},
		{"input of a bad name", "    app: {path", "    App: {path", `12:5: "App" is not a name: lower-case letters and digits, with single ".", "_" or "-" between them, at most 128`},
		{"input twice", "    logo: {url", "    font: {url", `15:5: duplicate input "font" in inputs.files; first on line 14
33:14: copy from unknown step or input "logo"; known here: app, font, fetch-deps, compile`},
		{"file named as a tree", "    font: {url", "    app: {url", `15:5: input "app" has the same name as a local input; /inputs/app can be only one`},
		{"plain http", "http://localhost:8080/font", "http://example.org/font", `15:17: url "http://example.org/font" does not begin with https://`},
		{"http to a host that only begins like this one", "http://localhost:8080/font", "http://localhost.example.org/font", `15:17: url "http://localhost.example.org/font" does not begin with https://`},
		{"password in a URL", "http://localhost:8080/font", "https://u:secret@example.org/font", `15:17: the url holds a user name or password, which everyone could read here`},
		{"file URL", "http://localhost:8080/font", "file:///etc/passwd", `15:17: url "file:///etc/passwd" does not begin with https://`},
		{"URL without host", "http://localhost:8080/font", "https:///font", `15:17: url "https:///font" names no host`},
		{"URL with a fragment", "http://localhost:8080/font", "https://example.org/font#1", `15:17: url "https://example.org/font#1" has a fragment (#…), which no server sees`},
		{"no URL", "http://localhost:8080/font", "https://exa mple.org/%", `15:17: "https://exa mple.org/%" is not a URL`},
		{"unpack yes", "unpack: true", "unpack: yes", `14:60: inputs.files.logo.unpack must be true or false, not text "yes"`},
		{"steps is a mapping", "steps:\n  - name: fetch-deps\n    run: echo\n  - name: compile\n", "steps:\n    name: compile\n", `17:5: steps must be a list, not a mapping
30:14: copy from unknown step or input "compile"; known here: app, font, logo`},
		{"step twice", "name: fetch-deps", "name: compile", `19:11: step "compile" is there already
21:19: step "compile" uses unknown input "fetch-deps"; known here: app, font, logo, compile`},
		{"step named as an input", "name: fetch-deps", "name: logo", `17:11: step "logo" has the same name as an input
21:19: step "compile" uses unknown input "fetch-deps"; known here: app, font, logo`},
		{"own result", "[app, fetch-deps]", "[compile]", `21:14: step "compile" cannot use its own result`},
		{"later step", "    run: echo\n", "    run: echo\n    inputs: [compile]\n", `19:14: step "fetch-deps" uses step "compile", which comes later; a step may use earlier steps only`},
		{"input with a slip", "[app, fetch-deps]", "[ap, fetch-deps]", `21:14: step "compile" uses unknown input "ap"; did you mean "app"?`},
		{"debian as files", "[app, fetch-deps]", "[debian]", `21:14: debian is not shown to steps as files; list packages: instead`},
		{"bad package", "[gcc,", "[Gcc,", `20:16: "Gcc" is not a package name: lower-case letters, digits, "+", "-" and ".", at least two`},
		{"package with a blank", "[gcc,", "[gcc 12,", `20:16: package "gcc 12" contains a blank; write name[:architecture][=version]`},
		{"package of no architecture", "libc6-dev:arm64", "libc6-dev:aarch64", `20:21: package "libc6-dev:aarch64": unknown architecture "aarch64"`},
		{"package of no version", "make=4.3-4.1", "make=", `20:40: package "make=": "" is not a Debian version`},
		{"package that is an option", "[gcc,", "[-o=x,", `20:16: "-o" is not a package name: lower-case letters, digits, "+", "-" and ".", at least two`},
		{"package twice", "make=4.3-4.1", "gcc=4.3-4.1", `20:40: package "gcc" is listed twice; first on line 20`},
		{"nothing to run", "run: echo", "run: ' '", `18:10: run is empty; say what the step does`},
		{"run is a list", "run: echo", "run: [echo]", `18:10: steps[0].run must be text, not a list`},
		{"variable that is a number", `V: "1"`, "V: 1", `24:14: steps[1].env.V is text, but YAML reads 1 as a number; quote it: "1"`},
		{"variable that is empty", `V: "1"`, "V: ", `24:14: steps[1].env.V must be text, not nothing`},
		{"variable of a bad name", `V: "1"`, `V-1: "1"`, `24:11: "V-1" cannot name an environment variable: letters, digits and "_", not beginning with a digit`},
		{"variable of ours", `V: "1"`, `OUT: /x`, `24:11: OUT is set by Quorate and cannot be changed`},
		{"bad time", "time: 10m", "time: 10 minutes", `25:20: time "10 minutes" is not a duration like 90s, 10m or 1h30m`},
		{"no time", "time: 10m", "time: 0s", `25:20: time "0s" is not from 1s to 24h`},
		{"time without unit", "time: 10m", "time: 600", `25:20: steps[1].limits.time is text, but YAML reads 600 as a number; quote it: "600"`},
		{"decimal size", "512MiB", "512MB", `25:33: size "512MB" is not a whole number with KiB, MiB, GiB or TiB`},
		{"gigantic size", "512MiB", "9999999999TiB", `25:33: size "9999999999TiB" is larger than any machine`},
		{"no processes", "processes: 100", "processes: 0", `25:52: steps[1].limits.processes must be from 1 to 4194304, not 0`},
		{"package that is left out and asked for", "[debconf]", "[nginx]", `30:13: package "nginx" is both requested and left out`},
		{"left out with a version", "[debconf]", "[debconf=1]", `30:13: "debconf=1" is not a package name: lower-case letters, digits, "+", "-" and ".", at least two`},
		{"scripts with a slip", "scripts: none", "scripts: dpgk", `28:12: image.scripts cannot be "dpgk", only "dpkg" or "none"; did you mean "dpkg"?`},
		{"field with a slip", "  packages: [nginx]", "  pakages: [nginx]", `27:3: unknown field "pakages" in image; did you mean "packages"?`},
		{"field at the top with a slip", "\nimage:", "\nimages:", `1:1: missing field "image"
26:1: unknown field "images"; did you mean "image"?`},
		{"field twice", "  layers: single", "  layers: single\n  layers: single", `50:3: duplicate field "layers" in image; first on line 49`},
		{"copy from nowhere", "{from: compile,", "{from: complie,", `32:14: copy from unknown step or input "complie"; did you mean "compile"?`},
		{"copy to nowhere", ", to: /logo", "", `33:7: missing field "to" in image.copy[1]`},
		{"copy to a relative path", "to: /logo", "to: ./logo", `33:24: path "./logo" is not absolute; write "/logo"`},
		{"copy out of the image", "to: /logo", "to: /../logo", `33:24: path "/../logo" contains ".."`},
		{"owner by name", `"10:20"`, `"app:app"`, `32:53: owner "app:app" is not "UID:GID" with numbers from 0 to 65534`},
		{"owner too large", `"10:20"`, `"0:65535"`, `32:53: owner "0:65535" is not "UID:GID" with numbers from 0 to 65534`},
		{"decimal mode", "mode: 0644", "mode: 644", `32:68: mode "644" is not octal permission bits; write them like 0644`},
		{"mode with setuid", "mode: 0644", "mode: 04755", `32:68: mode "04755" is not octal permission bits; write them like 0644`},
		{"no mode", "mode: 0644", "mode: 0000", `32:68: mode 0000 would make files that nobody can read; leave mode out to keep each file's own`},
		{"uid too large", "uid: 1000", "uid: 65535", `36:26: image.accounts.users[0].uid must be from 0 to 65534, not 65535`},
		{"uid taken", "uid: 1001", "uid: 1000", `37:26: uid 1000 is user "app" already`},
		{"user twice", "name: web, uid", "name: app, uid", `37:16: user "app" is there already`},
		{"root again", "name: web, uid", "name: root, uid", `37:16: user "root" is always there`},
		{"user of a bad name", "name: web, uid", "name: web:x, uid", `37:16: "web:x" is not an account name: lower-case letters, digits, "_" and "-", at most 32, not beginning with a digit`},
		{"home that breaks passwd", "home: /srv", `home: "/srv:x"`, `37:47: path "/srv:x" contains a colon, which divides the fields of /etc/passwd`},
		{"member that is nobody", "members: [app]", "members: [apt]", `38:45: group "web" has member "apt", whom accounts.users does not have; did you mean "app"?`},
		{"run as nobody", "run-as: app", "run-as: daemon", `39:13: run-as names user "daemon", whom accounts.users does not have; add it to accounts.users, or write "root", "app" or "web"`},
		{"run as a number", "run-as: app", "run-as: 1000", `39:13: image.accounts.run-as is text, but YAML reads 1000 as a number; quote it: "1000"`},
		{"command as text", "[/usr/bin/greeter, \"8\"]", "/usr/bin/greeter", `41:17: image.config.entrypoint must be a list, not text "/usr/bin/greeter"; write [/usr/bin/greeter]`},
		{"word that is a number", `"8"]`, "8]", `41:36: image.config.entrypoint[1] is text, but YAML reads 8 as a number; quote it: "8"`},
		{"label with a blank", "org.opencontainers.image.title: g", "my title: g", `45:14: "my title" is not a label: letters, digits, ".", "_", "-" and "/"`},
		{"port too high", "[443,", "[65536,", `46:13: port "65536" is not a number from 1 to 65535, alone or with /tcp, /udp or /sctp`},
		{"port of no protocol", "53/udp", "53/dns", `46:18: port "53/dns" is not a number from 1 to 65535, alone or with /tcp, /udp or /sctp`},
		{"port twice", "53/udp", "80/tcp", `46:26: port "80/tcp" is listed twice; first on line 46`},
		{"relative volume", "/data/", "data", `47:25: path "data" is not absolute; write "/data"`},
		{"signal with a slip", "SIGQUIT", "SIGQIUT", `48:18: unknown signal "SIGQIUT"; did you mean "SIGQUIT"?`},
		{"signal by number", "SIGQUIT", "hello", `48:18: unknown signal "hello"; write it like SIGTERM`},
		{"strategy with a slip", "layers: single", "layers: singel", `49:11: image.layers cannot be "singel", only "grouped" or "single"; did you mean "single"?`},
		{"anchor", "name: greeter", "name: &x greeter", `2:7: an anchor (&x) is not allowed; write the value out where it is needed`},
		{"second document", "steps:\n", "---\nsteps:\n", `16:1: a second YAML document begins here; one file holds one document`},
		{"tab", "  debian:\n", "\tdebian:\n", `6:1: not YAML: a tab cannot indent; use spaces`},
	}
	for _, test := range tests {
		if strings.Count(base, test.old) < 1 {
			t.Errorf("%s: base has no %q", test.summary, test.old)
			continue
		}
		d, err := Parse("quorate.yaml", []byte(strings.Replace(base, test.old, test.new, 1)))
		if got := heads(err); got != test.want || d != nil {
			t.Errorf("%s:\n got %s\nwant %s", test.summary, got, test.want)
		}
	}
}

func TestDebianMustBeAskedFor(t *testing.T) {
	tests := []struct{ summary, text, want string }{
		{"packages", "image: {packages: [nginx]}\n", "5:9: packages come from the Debian archive, but there is no inputs.debian; add inputs: {debian: {suite: bookworm}}"},
		{"without", "image: {without: [nginx]}\n", "5:9: without come from the Debian archive, but there is no inputs.debian; add inputs: {debian: {suite: bookworm}}"},
		{"essential", "image: {essential: true}\n", "5:9: the Essential set comes from the Debian archive, but there is no inputs.debian; add inputs: {debian: {suite: bookworm}}"},
		{"steps", "image: {}\nsteps: [{name: a, run: b}]\n", "6:1: steps run in a root of Debian packages, but there is no inputs.debian; add inputs: {debian: {suite: bookworm}}"},
		{"a slip is told once", "image: {packages: [nginx]}\ninputs: {debain: {suite: bookworm}}\n", `6:10: unknown field "debain" in inputs; did you mean "debian"?`},
		{"nothing under inputs", "image: {packages: [nginx]}\ninputs:\n", `6:8: inputs must be a mapping with debian, local, files, not nothing`},
		{"nothing to use", "inputs: {debian: {suite: bookworm}}\nimage: {}\nsteps: [{name: a, run: b, inputs: [x]}]\n", `7:36: step "a" uses unknown input "x"; there are no inputs and no steps before it`},
	}
	for _, test := range tests {
		_, err := Parse("quorate.yaml", []byte(minimal+test.text))
		if got := heads(err); got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.summary, got, test.want)
		}
	}
}

// heads returns place and message of every error, one a line.
func heads(err error) string {
	var all *Errors
	if !errors.As(err, &all) {
		return "no *Errors"
	}
	var lines []string
	for _, e := range *all {
		first, _, _ := strings.Cut(e.Error(), "\n")
		lines = append(lines, strings.TrimPrefix(first, "quorate.yaml:"))
	}
	return strings.Join(lines, "\n")
}

func TestHostileFilesAreRefusedQuickly(t *testing.T) {
	million := 1<<20 - 200
	tests := []struct{ summary, text string }{
		{"too large", minimal + strings.Repeat("#", 1<<20)},
		{"deep", "a: " + strings.Repeat("[", 5000)},
		{"deep blocks", strings.Repeat("- ", million/2)},
		{"deep mappings", strings.Repeat("? ", million/2)},
		{"brackets", strings.Repeat("[", million)},
		{"many keys", strings.Repeat("a: b\n", million/5)},
		{"many unknown keys", strings.Repeat("x: b\n", 4000)},
		{"aliases", "a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b,*b,*b]\n"},
		{"one long line of errors", "{" + strings.Repeat("x,", 4900) + "}"},
		{"colons", strings.Repeat(":", million)},
		{"comments", strings.Repeat("#\n", million/2)},
		{"spaces", strings.Repeat(" ", million) + "a"},
		{"binary", strings.Repeat("\x00\xff", 1000)},
	}
	for _, test := range tests {
		start := time.Now()
		_, err := Parse("quorate.yaml", []byte(test.text))
		if err == nil {
			t.Errorf("%s: no error", test.summary)
			continue
		}
		shown := len(err.Error())
		// The bound is a hundred times what is measured, and far below what
		// anything quadratic in the file's size would take.
		if spent := time.Since(start); spent > 10*time.Second || shown > 4<<20 {
			t.Errorf("%s: took %s to say %d bytes", test.summary, spent, shown)
		}
	}
}
