package draft

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

const (
	requirements = "requirements.txt"
	pyLock       = "pylock.toml"
	pyProject    = "pyproject.toml"

	// withHashes is what is made of another tool's list.
	withHashes = "requirements-locked.txt"
)

// pyManifest is what pyproject.toml says.
type pyManifest struct {
	Project struct {
		Name         string            `toml:"name"`
		Dependencies []string          `toml:"dependencies"`
		Requires     string            `toml:"requires-python"`
		Scripts      map[string]string `toml:"scripts"`
	} `toml:"project"`
}

func (p project) python() (m pyManifest) {
	_, _ = toml.Decode(p.read(pyProject), &m) // one that cannot be read says nothing
	return m
}

// pythonWanted is which versions pyproject.toml accepts, in npm's way of writing it.
func (p project) pythonWanted() string {
	wanted := p.python().Project.Requires
	if strings.ContainsAny(wanted, "~!=*") && !strings.Contains(wanted, ">=") {
		return "" // exclusions and the like, which are not worth reading
	}
	return strings.ReplaceAll(strings.ReplaceAll(wanted, " ", ""), ",", " ")
}

// exporters write a list with hashes of what another tool has locked.
var exporters = []struct{ file, run string }{
	{"uv.lock", "uv export --frozen --no-dev --no-emit-project --output-file " + withHashes},
	{"poetry.lock", "poetry export --output " + withHashes + " (of poetry-plugin-export)"},
	{"Pipfile.lock", "pipenv requirements --hash >" + withHashes},
	{requirements, "pip-compile --generate-hashes --output-file " + withHashes + " " + requirements + " (of pip-tools)"},
}

// pythonProject installs what a list with hashes names beside the sources. Where there is
// no list, the project runs on Debian's packages.
func pythonProject(p project) (*recipe, error) {
	if !p.has(requirements, pyLock, pyProject, "setup.py", "Pipfile", "manage.py") {
		return nil, nil
	}
	h := p.hints()
	r := &recipe{kind: "a Python project", copy: fromBuild, ignore: "__pycache__/\n*.pyc\n/.venv/\n/venv/\n"}
	lock := p.pythonLock(r)
	libs := ""
	if lock == "" {
		r.copy = "{from: source, path: /, to: /srv/app}"
		r.image = "  packages: [python3, ca-certificates" + p.debianPython(r) + "]\n"
	} else {
		r.image = "  packages: [python3, ca-certificates]\n"
		libs = ":/srv/lib"
		p.pythonStep(r, lock)
	}
	r.image += onlyShipped + service
	source := "/srv/app"
	if p.hasFolder("src") {
		source = "/srv/app/src:/srv/app"
	}
	r.config = p.pythonCommand(r, h) +
		fmt.Sprintf("    env: {PYTHONPATH: %q, PYTHONDONTWRITEBYTECODE: \"1\", PYTHONUNBUFFERED: \"1\"}\n    working-dir: /srv/app\n", source+libs)
	h.apply(r)
	return r, nil
}

// pythonLock is the file that names what to install, by hash; "" when nothing does.
func (p project) pythonLock(r *recipe) string {
	if p.has(requirements) && strings.Contains(p.read(requirements), "--hash=") {
		return requirements
	}
	for _, file := range []string{pyLock, withHashes} {
		if p.has(file) {
			return file
		}
	}
	for _, e := range exporters {
		if p.has(e.file) && strings.TrimSpace(p.read(e.file)) != "" {
			r.notes = append(r.notes, fmt.Sprintf("%s is no list with hashes that pip reads; %s is to be one; run: %s", e.file, withHashes, e.run))
			return withHashes
		}
	}
	return ""
}

func (p project) pythonStep(r *recipe, lock string) {
	version := ""
	if p.release.python != "" {
		version = fmt.Sprintf(", python: %q", p.release.python[:strings.LastIndexByte(p.release.python, '.')])
	}
	r.inputs = fmt.Sprintf("  python: {wheels: {from: source, path: %s%s}}\n", lock, version)
	install := "--require-hashes -r /inputs/source/" + lock
	if lock == pyLock {
		install = "/inputs/wheels/*" // pip of this suite does not read pylock.toml; the lock was made of it
	}
	r.step = fmt.Sprintf(`    packages: [python3-pip]
    inputs: [source, wheels]
    run: |
      mkdir -p $OUT/srv
      cp -r /inputs/source $OUT/srv/app
      pip install --no-index --find-links /inputs/wheels --no-deps --no-compile --target $OUT/srv/lib %s
      rm -rf $OUT/srv/lib/bin
`, install)
}

var (
	requirement   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*`)
	setupRequires = regexp.MustCompile(`install_requires\s*=\s*\[((?:[^\[\]]|\[[^\]]*\])*)\]`) // a list of names with extras in brackets
	pyExtras      = regexp.MustCompile(`\[[^\]]*\]`)
	pyText        = regexp.MustCompile(`["']([^"']+)["']`)
	separators    = regexp.MustCompile(`[-_.]+`)

	// debianNames are those of Debian's packages that do not follow from the name in the index (PyPI).
	debianNames = map[string]string{
		"beautifulsoup4": "bs4", "pillow": "pil", "psycopg2-binary": "psycopg2", "pyjwt": "jwt", "python-dateutil": "dateutil",
		"python-dotenv": "dotenv", "pyyaml": "yaml", "pyopenssl": "openssl", "brotlipy": "brotli", "mysqlclient": "mysqldb",
	}
)

// debianPython are Debian's packages of what the project says that it needs, each after ", ".
func (p project) debianPython(r *recipe) string {
	needs := p.python().Project.Dependencies
	if m := setupRequires.FindStringSubmatch(p.read("setup.py")); m != nil && len(needs) == 0 {
		for _, text := range pyText.FindAllStringSubmatch(pyExtras.ReplaceAllString(m[1], ""), -1) {
			needs = append(needs, text[1])
		}
	}
	var packages []string
	for _, need := range needs {
		need, marker, _ := strings.Cut(need, ";")
		name := separators.ReplaceAllString(strings.ToLower(requirement.FindString(strings.TrimSpace(need))), "-")
		if name = strings.Trim(name, "-"); name == "" || strings.Contains(marker, "<") || strings.Contains(marker, "win32") || strings.Contains(marker, "Windows") {
			continue // for Pythons and systems that this is not
		}
		if other := debianNames[name]; other != "" {
			name = other
		}
		packages = append(packages, "python3-"+name)
	}
	slices.Sort(packages)
	packages = slices.Compact(packages)
	if len(packages) == 0 {
		r.notes = append(r.notes, "nothing was found that says what the project needs; name Debian's packages under image.packages")
		return ""
	}
	r.notes = append(r.notes, "no list with hashes says what to install, so image.packages names Debian's packages, with Debian's versions; for those of the index (PyPI) make a "+pyLock+" or a "+requirements+" with hashes, and draft again")
	return ", " + strings.Join(packages, ", ")
}

// pythonServers are programs that a module of their name begins.
var pythonServers = []string{"gunicorn", "uvicorn", "hypercorn", "flask", "waitress", "celery", "daphne", "streamlit"}

// pythonCommand returns the line of the entrypoint.
func (p project) pythonCommand(r *recipe, h hints) string {
	line := func(words ...string) string {
		return "    entrypoint: " + quoted(append([]string{"/usr/bin/python3"}, words...)) + "\n"
	}
	if words := h.command; len(words) > 1 {
		switch name := path.Base(words[0]); {
		case slices.Contains(pythonServers, name):
			return line(append([]string{"-m"}, words...)...)
		case name == "python" || name == "python3":
			return line(words[1:]...)
		}
	}
	if p.has("manage.py") {
		return strings.TrimSuffix(line("manage.py", "runserver", "--noreload", "0.0.0.0:8000"), "\n") + "   # Django's own server, for trying\n    ports: [8000/tcp]\n"
	}
	scripts := p.python().Project.Scripts
	for _, name := range slices.Sorted(maps.Keys(scripts)) {
		module, function, ok := strings.Cut(scripts[name], ":")
		if ok && pyName.MatchString(module) && pyName.MatchString(function) {
			return line("-c", fmt.Sprintf("import sys; from %s import %s; sys.exit(%s())", module, strings.Split(function, ".")[0], function))
		}
	}
	for _, dir := range []string{".", "src"} {
		if found, _ := fs.Glob(p.dir, path.Join(dir, "*", "__main__.py")); len(found) == 1 && pyName.MatchString(path.Base(path.Dir(found[0]))) {
			return line("-m", path.Base(path.Dir(found[0])))
		}
	}
	for _, file := range []string{"main.py", "app.py", "server.py", "run.py", p.Name + ".py"} {
		if p.has(file) {
			return line(file)
		}
	}
	r.notes = append(r.notes, "what begins the program was not found; say it in image.config.entrypoint, which begins Python alone")
	return "    entrypoint: [/usr/bin/python3]   # name the module or the file: [/usr/bin/python3, -m, …]\n"
}

var pyName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$`)
