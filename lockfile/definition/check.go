package definition

import (
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	y "quorate.dev/lockfile/strictyaml"
)

// checker holds fields against each other once each was read by itself, and
// fills in the defaults that depend on other fields.
type checker struct {
	doc *y.Document
	def *Definition
}

func (c *checker) check() {
	c.defaults()
	inputs := c.inputNames()
	c.sources()
	c.projects(inputs)
	c.epoch(inputs)
	c.steps(inputs)
	c.image(inputs)
	c.accounts()
}

func (c *checker) defaults() {
	image := &c.def.Image
	if !c.doc.Has("image", "essential") {
		image.Essential = image.Scripts == ScriptsDpkg && c.def.Inputs.Debian != nil && image.Base == ""
	}
	for i := range image.Accounts.Users {
		if u := &image.Accounts.Users[i]; !c.doc.Has("image", "accounts", "users", i, "gid") {
			u.GID = u.UID
		}
	}
}

// names are those that steps and copies may refer to, in order of appearance,
// each with what it names.
type names struct {
	list []string
	what map[string]string // "a local input", "a step"
	bad  bool              // some name could not be read: say nothing of unknown ones
}

func (n *names) add(name, what string) {
	if name == "" {
		n.bad = true
		return
	}
	if n.what[name] == "" {
		n.list = append(n.list, name)
		n.what[name] = what
	}
}

// kinds are the fields of inputs, besides debian, in the order of the table,
// each with what messages call one of them.
var kinds = []struct{ field, what string }{
	{"local", "a local input"}, {"files", "a file"}, {"sources", "a source package"}, {"git", "a git input"}, {"images", "an image input"},
	{"go", "an input of Go modules"}, {"npm", "an input of npm packages"}, {"python", "an input of Python packages"}, {"cargo", "an input of crates"},
}

func (c *checker) inputNames() *names {
	known := []string{"debian"}
	for _, k := range kinds {
		known = append(known, k.field)
	}
	all := &names{what: map[string]string{}, bad: !c.understood("inputs", known...)}
	for i, list := range c.def.Inputs.names() {
		for _, name := range list {
			if other := all.what[name]; other != "" && name != "" && other != kinds[i].what {
				c.doc.Errorf(c.doc.Key("inputs", kinds[i].field, name), "input %q has the same name as %s; /inputs/%s can be only one", name, other, name)
				continue
			}
			all.add(name, kinds[i].what)
		}
	}
	return all
}

// names lists the inputs' names, kind by kind in the order of kinds.
func (in *Inputs) names() [][]string {
	return [][]string{
		namesOf(in.Local, func(l Local) string { return l.Name }), namesOf(in.Files, func(f File) string { return f.Name }), namesOf(in.Sources, func(s SourcePackage) string { return s.Name }),
		namesOf(in.Git, func(g Git) string { return g.Name }), namesOf(in.Images, func(b BaseImage) string { return b.Name }),
		namesOf(in.Go, Project.name), namesOf(in.Npm, Project.name), namesOf(in.Python, Project.name), namesOf(in.Cargo, Project.name),
	}
}

func (p Project) name() string { return p.Name }

func namesOf[T any](list []T, name func(T) string) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = name(v)
	}
	return out
}

// sources wants the archive that source packages come from.
func (c *checker) sources() {
	if len(c.def.Inputs.Sources) > 0 && c.lacksDebian() {
		c.doc.Errorf(c.doc.Key("inputs", "sources"), "source packages come from the Debian archive, but there is no inputs.debian; add inputs: {debian: {suite: bookworm}}")
	}
}

// projects looks for the trees that ecosystems' lock files lie in.
func (c *checker) projects(known *names) {
	for _, k := range []struct {
		field string
		list  []Project
	}{{"go", c.def.Inputs.Go}, {"npm", c.def.Inputs.Npm}, {"python", c.def.Inputs.Python}, {"cargo", c.def.Inputs.Cargo}} {
		for _, p := range k.list {
			what := known.what[p.From]
			at := func() *yaml.Node { return c.doc.At("inputs", k.field, p.Name, "from") }
			switch {
			case p.From == "" || what == "a local input" || what == "a git input":
			case what != "":
				c.doc.Errorf(at(), "input %q is in %q, which is %s; its lock file is read from a local or a git input", p.Name, p.From, what)
			case !known.bad:
				c.doc.Errorf(at(), "input %q is in unknown input %q%s", p.Name, p.From, c.meant(p.From, known))
			}
			if len(p.SignedBy) > 0 && slices.Contains([]string{"off", "when-offered"}, c.doc.At("inputs", k.field, p.Name, "signatures").Value) {
				c.doc.Errorf(c.doc.Key("inputs", k.field, p.Name, "signatures"), "input %q names keys under signed-by, which must sign all of it; leave out signatures, or write required", p.Name)
			}
		}
	}
}

func (c *checker) epoch(known *names) {
	name := c.def.Epoch.CommitOf
	if name == "" || known.bad || known.what[name] == "a git input" {
		return
	}
	c.doc.Errorf(c.doc.At("epoch"), "epoch names %q, which is no git input%s", name, y.DidYouMean(name, namesOf(c.def.Inputs.Git, func(g Git) string { return g.Name })))
}

// isImage checks a field that names an image input.
func (c *checker) isImage(name string, known *names, at ...any) {
	switch what := known.what[name]; {
	case name == "" || what == "an image input":
	case what != "":
		c.doc.Errorf(c.doc.At(at...), "%q is %s; only one of inputs.images can stand here", name, what)
	case !known.bad:
		c.doc.Errorf(c.doc.At(at...), "unknown image input %q%s", name, y.DidYouMean(name, namesOf(c.def.Inputs.Images, func(b BaseImage) string { return b.Name })))
	}
}

// understood reports whether a top field is absent or a mapping of only the
// fields named. Where it is not, something was said that we did not get, and
// complaints about what is missing would be noise.
func (c *checker) understood(field string, known ...string) bool {
	if !c.doc.Has(field) {
		return true
	}
	n := c.doc.At(field)
	for i := 0; i+1 < len(n.Content); i += 2 {
		if !slices.Contains(known, n.Content[i].Value) {
			return false
		}
	}
	return n.Kind == yaml.MappingNode
}

// lacksDebian reports whether the file asks for no Debian archive.
func (c *checker) lacksDebian() bool {
	known := []string{}
	for _, k := range kinds {
		known = append(known, k.field)
	}
	return !c.doc.Has("inputs", "debian") && c.understood("inputs", known...)
}

func (c *checker) steps(known *names) {
	if slices.ContainsFunc(c.def.Steps, func(s Step) bool { return s.Root == "" || len(s.Packages) > 0 }) && c.lacksDebian() {
		c.doc.Errorf(c.doc.Key("steps"), "steps run in a root of Debian packages, but there is no inputs.debian; add inputs: {debian: {suite: bookworm}}")
	}
	for i, s := range c.def.Steps {
		c.stepInputs(i, s, known)
		c.isImage(s.Root, known, "steps", i, "root")
		for _, v := range s.Env {
			if v.Name == "OUT" || v.Name == "SOURCE_DATE_EPOCH" {
				c.doc.Errorf(c.doc.Key("steps", i, "env", v.Name), "%s is set by Quorate and cannot be changed", v.Name)
			}
		}
		switch what := known.what[s.Name]; {
		case what == "a step":
			c.doc.Errorf(c.doc.At("steps", i, "name"), "step %q is there already", s.Name)
		case what != "":
			c.doc.Errorf(c.doc.At("steps", i, "name"), "step %q has the same name as an input", s.Name)
		default:
			known.add(s.Name, "a step")
		}
	}
}

func (c *checker) stepInputs(i int, s Step, known *names) {
	for j, input := range s.Inputs {
		at := c.doc.At("steps", i, "inputs", j)
		switch {
		case known.what[input] != "" || known.bad || input == "":
		case input == s.Name:
			c.doc.Errorf(at, "step %q cannot use its own result", s.Name)
		case c.isLaterStep(i, input):
			c.doc.Errorf(at, "step %q uses step %q, which comes later; a step may use earlier steps only", s.Name, input)
		case input == "debian":
			c.doc.Errorf(at, "debian is not shown to steps as files; list packages: instead")
		default:
			c.doc.Errorf(at, "step %q uses unknown input %q%s", s.Name, input, c.meant(input, known))
		}
	}
}

func (c *checker) isLaterStep(i int, name string) bool {
	for _, s := range c.def.Steps[i+1:] {
		if s.Name == name {
			return true
		}
	}
	return false
}

// meant suggests a name, or lists the few that there are.
func (c *checker) meant(word string, known *names) string {
	if near := y.DidYouMean(word, known.list); near != "" {
		return near
	}
	if len(known.list) == 0 {
		return "; there are no inputs and no steps before it"
	}
	if len(known.list) > 8 { // more would hide the message
		return ""
	}
	return "; known here: " + strings.Join(known.list, ", ")
}

func (c *checker) image(known *names) {
	image := c.def.Image
	c.isImage(image.Base, known, "image", "base")
	if image.Base != "" && image.Essential {
		c.doc.Errorf(c.doc.Key("image", "essential"), "the image is built on %q, which has the Essential set or has not; leave out essential", image.Base)
	}
	if c.lacksDebian() && (image.Base == "" || len(image.Packages) > 0) {
		for _, field := range []string{"packages", "without"} {
			if c.doc.Has("image", field) {
				c.doc.Errorf(c.doc.Key("image", field), "%s come from the Debian archive, but there is no inputs.debian; add inputs: {debian: {suite: bookworm}}", field)
			}
		}
		if image.Essential {
			c.doc.Errorf(c.doc.Key("image", "essential"), "the Essential set comes from the Debian archive, but there is no inputs.debian; add inputs: {debian: {suite: bookworm}}")
		}
	}
	requested := map[string]bool{}
	for _, p := range image.Packages {
		r, _ := ParseRequest(p)
		requested[r.Name] = true
	}
	for i, p := range image.Without {
		if p != "" && requested[p] {
			c.doc.Errorf(c.doc.At("image", "without", i), "package %q is both requested and left out", p)
		}
	}
	for i, from := range image.Copy {
		if known.what[from.From] == "" && !known.bad && from.From != "" {
			c.doc.Errorf(c.doc.At("image", "copy", i, "from"), "copy from unknown step or input %q%s", from.From, c.meant(from.From, known))
		}
	}
}

func (c *checker) accounts() {
	a := c.def.Image.Accounts
	users, uids := map[string]bool{"root": true}, map[string]string{}
	names := []string{"root"}
	for i, u := range a.Users {
		c.account("user", u.Name, users, "users", i)
		c.number("uid", "user", u.Name, uids, "users", i)
		users[u.Name] = true
		names = append(names, u.Name)
	}
	if users[""] {
		return // some name could not be read
	}
	groups, gids := map[string]bool{"root": true}, map[string]string{}
	for i, g := range a.Groups {
		c.account("group", g.Name, groups, "groups", i)
		c.number("gid", "group", g.Name, gids, "groups", i)
		groups[g.Name] = true
		for j, m := range g.Members {
			if m != "" && !users[m] {
				c.doc.Errorf(c.doc.At("image", "accounts", "groups", i, "members", j), "group %q has member %q, whom accounts.users does not have%s", g.Name, m, y.DidYouMean(m, names))
			}
		}
	}
	if a.RunAs != "" && !users[a.RunAs] {
		near := y.DidYouMean(a.RunAs, names)
		if near == "" {
			near = fmt.Sprintf("; add it to accounts.users, or write %s", y.Alternatives(names))
		}
		c.doc.Errorf(c.doc.At("image", "accounts", "run-as"), "run-as names user %q, whom accounts.users does not have%s", a.RunAs, near)
	}
}

// account refuses names that are taken.
func (c *checker) account(what, name string, taken map[string]bool, list string, i int) {
	at := c.doc.At("image", "accounts", list, i, "name")
	switch {
	case name == "root":
		c.doc.Errorf(at, "%s \"root\" is always there", what)
	case name != "" && taken[name]:
		c.doc.Errorf(at, "%s %q is there already", what, name)
	}
}

// number refuses numbers that are taken. It takes them from the file, where
// one that could not be read is not 0.
func (c *checker) number(field, what, name string, taken map[string]string, list string, i int) {
	if !c.doc.Has("image", "accounts", list, i, field) {
		return
	}
	at := c.doc.At("image", "accounts", list, i, field)
	if at.Kind != yaml.ScalarNode {
		return
	}
	if other, is := taken[at.Value]; is {
		c.doc.Errorf(at, "%s %s is %s %q already", field, at.Value, what, other)
	}
	taken[at.Value] = name
}
