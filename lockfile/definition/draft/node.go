package draft

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

const packageLock = "package-lock.json"

// nodeManifest is what package.json says.
type nodeManifest struct {
	Name       string            `json:"name"`
	Main       string            `json:"main"`
	Bin        json.RawMessage   `json:"bin"` // a file, or files by name
	Scripts    map[string]string `json:"scripts"`
	Workspaces json.RawMessage   `json:"workspaces"`
	Engines    json.RawMessage   `json:"engines"` // a list in old packages
}

// node reads the package.json of a folder; nil when there is none.
func (p project) node(dir string) (*nodeManifest, error) {
	name := path.Join(dir, "package.json")
	text := p.read(name)
	if text == "" {
		return nil, nil
	}
	var m nodeManifest
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &m, nil
}

// noLock says what to do about a package-lock.json that is not there.
func (p project) noLock(dir string) string {
	run := "run: npm install --package-lock-only"
	if dir != "." {
		run = "run in " + dir + ": npm install --package-lock-only"
	}
	for _, other := range []string{"yarn.lock", "pnpm-lock.yaml", "bun.lock", "bun.lockb", "npm-shrinkwrap.json"} {
		if p.has(path.Join(dir, other)) {
			return "there is no " + packageLock + ", and " + other + " is not read; " + run
		}
	}
	return "there is no " + packageLock + "; " + run
}

// nodePackage is installed by npm from the locked cache.
func nodePackage(p project) (*recipe, error) {
	m, err := p.node(".")
	if m == nil || err != nil {
		return nil, err
	}
	h := p.hints()
	r := &recipe{kind: "a Node package"}
	begin := p.nodeCommand(m, h)
	if begin == nil {
		begin = []string{"index.js"}
		r.notes = append(r.notes, "which file the program begins with is not said by package.json in a way that was understood; say it in image.config.entrypoint, which names index.js")
	}
	// What the package's own scripts need is mostly among devDependencies, so all is installed and those are removed again.
	omit, build := " --omit=dev", ""
	for _, script := range []string{"preinstall", "install", "postinstall", "prepare", "build"} {
		if m.Scripts[script] != "" {
			omit, build = "", "      npm prune --omit=dev --offline --no-audit --no-fund\n"
		}
	}
	if m.Scripts["build"] != "" {
		build = "      npm run build\n" + build
	}
	r.inputs = "  npm: {packages: {from: source}}   # what package-lock.json names\n"
	r.step = p.nodeTools(".") + fmt.Sprintf(`    run: |
      cp -r /inputs/packages/. ~/.npm
      mkdir -p $OUT/srv
      cp -r /inputs/source $OUT/srv/app
      cd $OUT/srv/app
      npm ci --offline%s --no-audit --no-fund --no-update-notifier
%s      rm -f node_modules/.package-lock.json   # npm's note of when it looked
`, omit, build)
	r.image = "  packages: [nodejs, ca-certificates]\n" + onlyShipped + service
	r.copy = fromBuild
	r.config = fmt.Sprintf("    entrypoint: %s\n    working-dir: /srv/app\n", quoted(append([]string{"/usr/bin/node"}, begin...)))
	r.ignore = "node_modules/\n"
	if !p.has(packageLock) {
		r.notes = append(r.notes, p.noLock("."))
	} else {
		p.nodeLock(r)
	}
	h.apply(r)
	return r, nil
}

// nodeCommand is what follows node in the command that begins the program: of the
// script start, of the Dockerfile, then the package's program, or its main file. It
// names a file that is there, or that the build makes; nil when none does.
func (p project) nodeCommand(m *nodeManifest, h hints) []string {
	for _, words := range [][]string{m.script("start"), h.command} {
		if words = p.nodeWords(words, m); words != nil {
			return words
		}
	}
	var bin string
	var bins map[string]string
	if json.Unmarshal(m.Bin, &bin) != nil && json.Unmarshal(m.Bin, &bins) == nil && len(bins) > 0 {
		bin = bins[slices.Min(slices.Collect(maps.Keys(bins)))]
		if own := bins[path.Base(m.Name)]; own != "" {
			bin = own
		}
	}
	if m.Main == "" && bin == "" && m.Scripts["start"] == "" {
		m.Main = "index.js" // npm's own default
	}
	first, second := bin, m.Main
	if m.Scripts["start"] != "" { // it serves, and what it installs is something beside
		first, second = m.Main, bin
	}
	for _, file := range []string{first, second, "server.js", "app.js", "index.js"} {
		if words := p.nodeWords([]string{"node", file}, m); words != nil {
			return words
		}
	}
	return nil
}

// script is the command of a script, of the one that is meant where it only runs another.
func (m *nodeManifest) script(name string) []string {
	for range len(m.Scripts) { // they may run each other
		words := command(m.Scripts[name])
		if len(words) != 3 || words[0] != "npm" || words[1] != "run" && words[1] != "run-script" {
			return words
		}
		name = words[2]
	}
	return nil
}

// nodeWords takes the command of node apart: options, a file of the project, and its arguments.
func (p project) nodeWords(words []string, m *nodeManifest) []string {
	for len(words) > 0 && (words[0] == "cross-env" || words[0] == "exec" || strings.Contains(words[0], "=") || path.Base(words[0]) == "tini" || words[0] == "--") {
		words = words[1:]
	}
	if len(words) < 2 || path.Base(words[0]) != "node" {
		return nil
	}
	words = slices.Clone(words[1:])
	for i, w := range words {
		if strings.HasPrefix(w, "-") || i > 0 && slices.Contains([]string{"-r", "--require", "--import", "--loader"}, words[i-1]) {
			continue
		}
		file := p.nodeFile(strings.TrimPrefix(w, "./"), m)
		if file == "" {
			return nil
		}
		words[i] = "/srv/app/" + file
		return words
	}
	return nil
}

// nodeFile is the file that node would take, with its extension; "" when it is not there and no build makes it.
func (p project) nodeFile(name string, m *nodeManifest) string {
	if name == "" || !plainPath.MatchString(name) || strings.Contains(name, "..") {
		return ""
	}
	for _, file := range []string{name, name + ".js", name + ".cjs", name + ".mjs", path.Join(name, "index.js")} {
		if p.has(file) {
			return file
		}
	}
	if m.Scripts["build"] != "" && strings.HasSuffix(name, "js") && !p.hasFolder(path.Dir(name)) {
		return name
	}
	return ""
}

// lockedNode is what package-lock.json says of one package (docs.npmjs.com/cli/configuring-npm/package-lock-json).
type lockedNode struct {
	Dev              bool            `json:"dev"`
	Optional         bool            `json:"optional"`
	HasInstallScript bool            `json:"hasInstallScript"`
	Engines          json.RawMessage `json:"engines"`
}

func (p project) lockedNodes(dir string) map[string]lockedNode {
	var l struct {
		Packages map[string]lockedNode `json:"packages"`
	}
	_ = json.Unmarshal([]byte(p.read(path.Join(dir, packageLock))), &l) // the lock says what is wrong with it
	return l.Packages
}

// compilers are packages that are there to compile others when these are installed.
var compilers = []string{"bindings", "nan", "node-addon-api", "node-gyp-build", "node-pre-gyp", "@mapbox/node-pre-gyp"}

// nodeTools are the packages, inputs and variables of a step that installs what a folder's package-lock.json names.
func (p project) nodeTools(dir string) string {
	packages, variable := "[npm]", ""
	for name, n := range p.lockedNodes(dir) {
		if !n.Optional && slices.Contains(compilers, nodeName(name)) {
			packages = "[npm, g++, libnode-dev, make]   # the last three for packages that are compiled"
			variable = ", npm_config_nodedir: /usr/include/nodejs" // where libnode-dev has what node-gyp would download
		}
	}
	return "    packages: " + packages + "\n    inputs: [source, packages]\n" +
		`    env: {npm_config_registry: "http://registry.invalid/"` + variable + "}   # what the locked cache answers for\n"
}

func nodeName(folder string) string {
	if i := strings.LastIndex(folder, "node_modules/"); i >= 0 {
		folder = folder[i+len("node_modules/"):]
	}
	return folder
}

// nodeLock notes what in package-lock.json may not go well in a step.
func (p project) nodeLock(r *recipe) {
	var scripts []string
	for name, n := range p.lockedNodes(".") {
		if n.HasInstallScript && !n.Optional && name != "" {
			scripts = append(scripts, nodeName(name))
		}
	}
	if slices.Sort(scripts); len(scripts) > 0 {
		r.notes = append(r.notes, "when they are installed, scripts run of "+someOf(slices.Compact(scripts))+"; what one of them downloads has to be an input")
	}
}

// someOf names the first few of many.
func someOf(names []string) string {
	const few = 6
	if len(names) > few {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
	}
	return strings.Join(names, ", ")
}

// nodeWanted returns what packages want of Node that a version does not satisfy: "vite wants node >=20".
func (p project) nodeWanted(version string) string {
	for _, dir := range append([]string{"."}, p.folders(".")...) {
		m, err := p.node(dir)
		if m == nil || err != nil || dir != "." && m.Scripts["build"] == "" {
			continue
		}
		if range_ := nodeEngine(m.Engines); !accepts(range_, version) {
			return path.Join(dir, "package.json") + " wants node " + range_
		}
		locked := p.lockedNodes(dir)
		for _, name := range slices.Sorted(maps.Keys(locked)) {
			n := locked[name]
			if range_ := nodeEngine(n.Engines); !n.Optional && (!n.Dev || m.Scripts["build"] != "") && !accepts(range_, version) {
				return nodeName(name) + " wants node " + range_
			}
		}
	}
	return ""
}

func nodeEngine(engines json.RawMessage) string {
	var e struct {
		Node string `json:"node"`
	}
	_ = json.Unmarshal(engines, &e)
	return e.Node
}

var comparator = regexp.MustCompile(`^(>=|<=|>|<|=|\^|~)?v?([0-9]+)(?:\.([0-9]+|x|\*))?(?:\.([0-9]+|x|\*))?`)

// accepts reports whether a range of npm's has a version; one that is not understood has all.
func accepts(wanted, version string) bool {
	have := triple(strings.Split(version, "."))
	understood := false
	for clause := range strings.SplitSeq(strings.NewReplacer(">= ", ">=", "<= ", "<=", "> ", ">", "< ", "<", "^ ", "^").Replace(wanted), "||") {
		fits := true
		for word := range strings.FieldsSeq(clause) {
			m := comparator.FindStringSubmatch(word)
			if m == nil {
				return true
			}
			understood = true
			fits = fits && comparatorHas(m, have)
		}
		if fits && strings.TrimSpace(clause) != "" {
			return true
		}
	}
	return !understood
}

func comparatorHas(m []string, have [3]int) bool {
	low := triple(m[2:])
	next := low // the first version that is not of the same major, minor or patch
	switch given := m[3] != "" && m[3] != "x" && m[3] != "*"; {
	case m[1] == "^" && low[0] > 0 || !given:
		next = [3]int{low[0] + 1}
	case m[1] == "~" || m[4] == "" || m[4] == "x" || m[4] == "*":
		next = [3]int{low[0], low[1] + 1}
	default:
		next[2]++
	}
	switch m[1] {
	case ">=":
		return !less(have, low)
	case ">":
		return !less(have, next)
	case "<":
		return less(have, low)
	case "<=":
		return less(have, next)
	}
	return !less(have, low) && less(have, next)
}

func triple(words []string) (t [3]int) {
	for i := range min(len(words), 3) {
		t[i] = number(words[i])
	}
	return t
}

func less(a, b [3]int) bool { return slices.Compare(a[:], b[:]) < 0 }
