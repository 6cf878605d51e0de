// Package draft writes a first quorate.yaml for a project that has none.
//
// [Write] looks at a project's files the way that somebody who packages it would:
// which build system is there, which programs come out, what they need when they
// run, and which suite of Debian has the languages that they want. What a Dockerfile or a
// Procfile says of the command and its ports is taken over, as facts about the program; their
// steps are not. It reads names and a few files, runs nothing and asks nobody. What it writes
// is meant to be read and changed; comments say what was assumed. Every draft is
// a definition that package definition accepts.
//
//	d, err := draft.Write(os.DirFS("."), draft.Options{Name: "app", Suite: "bookworm", Epoch: "commit"})
//	os.Stdout.Write(d.Text)
//	// d.Notes is what the user has to do before it can be locked
package draft

import (
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Options are what cannot be seen in the project's files.
type Options struct {
	Name     string // of the image
	Suite    string // of Debian; "" for the oldest that the project can be built with
	Epoch    string // "commit", or a time
	Platform string // "linux/amd64"
}

// Draft is a first definition.
type Draft struct {
	Kind   string   // what the project was taken for: "a Go module"
	Text   []byte   // of quorate.yaml
	Notes  []string // what is missing before it can be locked, or was not looked into
	Ignore []byte   // of .quorateignore: what is beside the project's sources and none of them
	Suite  string   // of Debian that it takes packages from
}

// ignore keeps the definition and what comes of it out of the input that they lie in: a lock that
// changed the tree that it was made from could never be up to date.
// Secrets of a developer's own checkout would be in the image of a language whose sources are shipped.
const ignore = "/quorate.yaml\n/quorate.lock\n/results/\n.env\n"

// recipe is how a kind of project is built.
type recipe struct {
	kind   string
	inputs string // lines of inputs beside debian and source, indented by two
	before string // a whole step before "build", indented by two; "" for none
	step   string // lines of the step "build" after its name, indented by four; "" for none
	image  string // lines of image beside copy, indented by two
	copy   string // from step or source
	config string // lines of config, indented by four
	ignore string // lines of .quorateignore beside the usual
	notes  []string
}

// kind recognises a kind of project; nil when this is none.
type kind func(p project) (*recipe, error)

// kinds in the order in which they are tried: a project with several build systems
// mostly drives the later ones from the earlier.
var kinds = []kind{goModule, cargoCrate, nodePackage, pythonProject, meson, cmake, autotools, makefile, files}

// Write drafts a definition of the project in a folder.
func Write(dir fs.FS, o Options) (*Draft, error) {
	p := project{dir: dir, Options: o}
	found, why, lacks := find(o.Suite), "", ""
	if o.Suite == "" {
		found, why, lacks = p.choose()
	} else if found.node != "" {
		lacks = p.lacks(found)
	}
	p.Suite, p.release = found.suite, found
	for _, try := range kinds {
		r, err := try(p)
		if err != nil {
			return nil, err
		}
		if r != nil {
			if why != "" {
				r.notes = append(r.notes, "packages come from "+p.Suite+": "+why)
			}
			if lacks != "" {
				r.notes = append(r.notes, lacks+"; what needs that will not build with Debian's packages")
			}
			return &Draft{Kind: r.kind, Text: []byte(r.text(p.Options)), Notes: r.notes, Ignore: []byte(ignore + r.ignore), Suite: p.Suite}, nil
		}
	}
	return nil, fmt.Errorf("no kind of project fits") // package files fits always
}

func (r *recipe) text(o Options) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# A first definition, for %s. Read it, change it, then run: quorate lock\n", r.kind)
	name := o.Name
	if looksTyped(name) {
		name = strconv.Quote(name)
	}
	fmt.Fprintf(&b, "apiVersion: quorate/v1\nname: %s\nplatforms: [%s]\nepoch: %s\n\n", name, o.Platform, o.Epoch)
	fmt.Fprintf(&b, "inputs:\n  debian: {suite: %s}\n  local: {source: {path: .}}   # .quorateignore says what is left out\n%s\n", o.Suite, r.inputs)
	if r.step != "" {
		fmt.Fprintf(&b, "steps:\n%s  - name: build   # no network; sees only its inputs and packages\n%s\n", r.before, r.step)
	}
	fmt.Fprintf(&b, "image:\n%s  copy:\n    - %s\n", r.image, r.copy)
	if r.config != "" {
		fmt.Fprintf(&b, "  config:\n%s", r.config)
	}
	return b.String()
}

// project is what a kind may look at.
type project struct {
	dir fs.FS
	Options
	release // what the suite has
}

// maxRead bounds a file that is looked into.
const maxRead = 8 << 20

// read returns a file's text, "" when there is none to read.
func (p project) read(name string) string {
	info, err := fs.Stat(p.dir, name)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxRead {
		return ""
	}
	b, err := fs.ReadFile(p.dir, name)
	if err != nil {
		return ""
	}
	return string(b)
}

func (p project) has(names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		info, err := fs.Stat(p.dir, name)
		return err == nil && info.Mode().IsRegular()
	})
}

func (p project) hasFolder(name string) bool {
	info, err := fs.Stat(p.dir, name)
	return err == nil && info.IsDir()
}

var notName = regexp.MustCompile(`[^a-z0-9]+`)

// ImageName makes a name that an image may have of any words.
func ImageName(words string) string {
	name := strings.Trim(notName.ReplaceAllString(strings.ToLower(words), "-"), "-")
	if name == "" {
		return "image"
	}
	return name[:min(len(name), 60)]
}

const (
	onlyShipped = "  essential: false   # ship these packages and what they need, not the tools that set them up\n"
	fromBuild   = "{from: build, to: /}"
)

// service is the user that a server runs as.
const service = "  accounts: {users: [{name: app, uid: 65532}], run-as: app}\n"

// plainWord is a name that may stand in a shell's line and in YAML as it is.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// plainPath is the same for a file of the project.
var plainPath = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._/-]*$`)
