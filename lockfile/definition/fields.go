package definition

import (
	"sort"
	"sync"
	"time"

	y "quorate.dev/lockfile/strictyaml"
)

// APIVersion is the only value of apiVersion that this Quorate reads.
const APIVersion = "quorate/v1"

// What Debian offers. Suites are those whose archive keys Quorate ships.
var (
	suites     = []string{"bookworm", "trixie"}
	components = []string{"main", "contrib", "non-free", "non-free-firmware"}
	pockets    = []string{"updates", "security", "backports"}
)

// root is the table of everything a definition may say. Parse reads by it and
// Schema prints it.
var root = sync.OnceValue(func() y.Shape[Definition] {
	return y.Object(
		y.Required("apiVersion", "Version of this file's format.", y.Word(APIVersion), func(d *Definition, v string) { d.APIVersion = v }),
		y.Required("name", "Name of the image: one component of an OCI repository name.", name(), func(d *Definition, v string) { d.Name = v }),
		y.Required("platforms", "Platforms to build for, like linux/amd64.",
			y.NonEmpty(y.Unique("platform", platform(), Platform.String)), func(d *Definition, v []Platform) { d.Platforms = v }),
		y.Required("epoch", "SOURCE_DATE_EPOCH of the build: a time (RFC 3339, whole seconds, not before 1980), or \"commit\" for the time of the git commit; \"commit:NAME\" for that of a git input.",
			y.Scalar(&y.Schema{Type: "string", Examples: []string{"2026-11-01T00:00:00Z", "commit", "commit:source"}}, parseEpoch), func(d *Definition, v Epoch) { d.Epoch = v }),
		y.Optional("inputs", "Everything that comes from outside. Nothing else reaches the build.", inputs(), func(d *Definition, v Inputs) { d.Inputs = v }),
		y.Optional("steps", "Isolated commands, run in this order, without network.", y.List(step()), func(d *Definition, v []Step) { d.Steps = v }),
		y.Required("image", "What is shipped.", image(), func(d *Definition, v Image) { d.Image = v }),
	)
})

func inputs() y.Shape[Inputs] {
	debian := y.Object(
		y.Required("suite", "Release of Debian.", y.Word(suites...), func(d *Debian, v string) { d.Suite = v }),
		y.Default("components", "Components of the archive.", y.NonEmpty(words("component", components)), "[main]", func(d *Debian, v []string) { d.Components = v }),
		y.Default("pockets", "Further indexes beside the suite itself; with the suite they are one view.", words("pocket", pockets), "[updates, security]",
			func(d *Debian, v []string) { d.Pockets = v }),
		y.Optional("signed-by", "Files of OpenPGP keys, relative to this file, that may sign the archive instead of the keys shipped with Quorate.",
			y.NonEmpty(y.Unique("key file", y.Convert(y.Text(), relativePath), self)), func(d *Debian, v []string) { d.SignedBy = v }),
	)
	source := y.Object(
		y.Required("package", "Name of the source package.", y.Matching(packagePattern, CheckPackageName), func(s *SourcePackage, v string) { s.Package = v }),
		y.Optional("version", "Debian's version of it; the newest of the suite without it.", y.Matching(versionPattern, CheckVersion), func(s *SourcePackage, v string) { s.Version = v }),
		y.Default("unpack", "What steps see: the upstream tarball unpacked, the same with Debian's folder debian/ (patches not applied), or the files as they are.",
			y.Word(UnpackUpstream, UnpackDebian, UnpackNone), string(UnpackUpstream), func(s *SourcePackage, v Unpack) { s.Unpack = v }),
	)
	local := y.Object(
		y.Required("path", "Folder or file beside this file; .quorateignore in it says what to leave out.", y.Convert(y.Text(), relativePath),
			func(l *Local, v string) { l.Path = v }),
	)
	file := y.Object(
		y.Required("url", "Where the file is brought from; its digest is recorded by the lock.", y.Matching("^https?://", CheckURL), func(f *File, v string) { f.URL = v }),
		y.Default("unpack", "Show the archive (tar, zip) unpacked.", y.Boolean(), "false", func(f *File, v bool) { f.Unpack = v }),
	)
	git := y.Object(
		y.Required("url", "Repository, by https or ssh.", y.Matching("^(https|ssh|file)://", CheckGitURL), func(g *Git, v string) { g.URL = v }),
		y.Default("ref", "Branch, tag, or full name of a commit.", y.Matching("", CheckGitRef), "HEAD", func(g *Git, v string) { g.Ref = v }),
		y.Default("submodules", "Bring the files of submodules, and of theirs, from where .gitmodules says.", y.Boolean(), "false", func(g *Git, v bool) { g.Submodules = v }),
		y.Optional("signed-by", "Files of SSH or OpenPGP public keys, relative to this file, one of which must have signed the tag or the commit.",
			y.NonEmpty(y.Unique("key file", y.Convert(y.Text(), relativePath), self)), func(g *Git, v []string) { g.SignedBy = v }),
	)
	base := y.Object(
		y.Required("image", "Reference in a registry with its tag or digest, or oci:PATH for an image layout beside this file.", y.Matching("", CheckImage),
			func(b *BaseImage, v string) { b.Image = v }),
		y.Optional("policy", "File of a policy that must verify the image before it is locked, relative to this file.", y.Convert(y.Text(), relativePath),
			func(b *BaseImage, v string) { b.Policy = v }),
	)
	image := named("input", base, func(b *BaseImage, name string) { b.Name = name })
	modules := append(project("Folder of go.mod and go.sum, or of go.work, in there.", "."),
		y.Optional("toolchain", "Go toolchain to lock with the modules, like go1.26.0.", y.Matching(toolchainPattern, checkToolchain), func(p *Project, v string) { p.Toolchain = v }),
		y.Optional("retracted", "Versions, MODULE@VERSION, that are accepted although their author retracted them.",
			y.NonEmpty(y.Unique("version", y.Matching("^[^ @]+@v[^ @]+$", checkModule), self)), func(p *Project, v []string) { p.Retracted = v }))
	distributions := append(project("File in there: requirements.txt with hashes, or pylock.toml.", "requirements.txt"),
		y.Optional("python", "Version of Python that wheels must fit, like \"3.11\"; all are locked without it.", y.Matching(pythonPattern, checkPython), func(p *Project, v string) { p.Python = v }))
	packages := append(project("Folder of package-lock.json in there.", "."),
		y.Default("signatures", "when-offered checks the signatures of registries that offer keys; required refuses other registries; off checks none.",
			y.Word("when-offered", "required", "off"), "when-offered", func(p *Project, v string) {
				if v != "when-offered" {
					p.Signatures = v
				}
			}),
		y.Optional("signed-by", "Files of registry keys, as a registry has them at /-/npm/v1/keys, relative to this file: every package must be signed by one of them.",
			y.NonEmpty(y.Unique("key file", y.Convert(y.Text(), relativePath), self)), func(p *Project, v []string) { p.SignedBy = v }))
	return y.Object(
		y.Optional("debian", "The signed Debian archive that packages come from.", debian, func(i *Inputs, v Debian) { i.Debian = &v }),
		y.Optional("local", "Trees beside this file, by name.", named("input", local, func(l *Local, name string) { l.Name = name }),
			func(i *Inputs, v []Local) { i.Local = v }),
		y.Optional("files", "Files brought by https, by name.", named("input", file, func(f *File, name string) { f.Name = name }),
			func(i *Inputs, v []File) { i.Files = v }),
		y.Optional("sources", "Source packages of the Debian archive, by name: upstream tarballs.", named("input", source, func(s *SourcePackage, name string) { s.Name = name }),
			func(i *Inputs, v []SourcePackage) { i.Sources = v }),
		y.Optional("git", "Trees of commits of git repositories, by name.", named("input", git, func(g *Git, name string) { g.Name = name }),
			func(i *Inputs, v []Git) { i.Git = v }),
		y.Optional("images", "Images to build on, by name.", image, func(i *Inputs, v []BaseImage) { i.Images = v }),
		y.Optional("go", "Modules of Go, by name.", projects(modules), func(i *Inputs, v []Project) { i.Go = v }),
		y.Optional("npm", "Packages of npm, by name.", projects(packages), func(i *Inputs, v []Project) { i.Npm = v }),
		y.Optional("python", "Distributions of Python packages, by name.", projects(distributions),
			func(i *Inputs, v []Project) { i.Python = v }),
		y.Optional("cargo", "Crates of Rust, by name.", projects(project("Folder of Cargo.lock in there.", ".")), func(i *Inputs, v []Project) { i.Cargo = v }),
	)
}

// project is what all ecosystems' inputs say: where their own lock file lies.
func project(path, fallback string) []y.Field[Project] {
	return []y.Field[Project]{
		y.Required("from", "Name of the local or git input that the project is in.", name(), func(p *Project, v string) { p.From = v }),
		y.Default("path", path, y.Convert(y.Text(), relativePath), fallback, func(p *Project, v string) { p.Path = v }),
	}
}

func projects(fields []y.Field[Project]) y.Shape[[]Project] {
	return named("input", y.Object(fields...), func(p *Project, name string) { p.Name = name })
}

func step() y.Shape[Step] {
	limits := y.Object(
		y.Optional("time", "Longest run, like 10m.", limitTime(), func(l *Limits, v time.Duration) { l.Time = v }),
		y.Optional("memory", "Memory, like 512MiB.", y.Size(), func(l *Limits, v int64) { l.Memory = v }),
		// 2^22 is the kernel's own limit of process ids (proc(5), pid_max).
		y.Optional("processes", "Processes and threads at one time.", y.Integer(1, 1<<22), func(l *Limits, v int64) { l.Processes = int(v) }),
		y.Optional("disk", "Space for what the step writes, like 2GiB.", y.Size(), func(l *Limits, v int64) { l.Disk = v }),
	)
	return y.Object(
		y.Required("name", "Name of the step, for copy and for later steps.", name(), func(s *Step, v string) { s.Name = v }),
		y.Optional("root", "Image input whose files are the step's root; packages are added to what its dpkg database lists.", name(), func(s *Step, v string) { s.Root = v }),
		y.Optional("packages", "Debian packages of the step's root, name[:architecture][=version]; without root, the Essential set is always there.", requests(),
			func(s *Step, v []string) { s.Packages = v }),
		y.Optional("inputs", "Inputs and earlier steps that are shown read-only at /inputs/NAME.", y.Unique("input", name(), self), func(s *Step, v []string) { s.Inputs = v }),
		y.Required("run", "Script for /bin/sh -euc. What it puts into $OUT is the step's result.",
			y.Convert(y.LongText(), notBlank).With(func(c *y.Schema) { c.MinLength = 1 }), func(s *Step, v string) { s.Run = v }),
		y.Optional("env", "Environment variables.", environment(), func(s *Step, v []Var) { s.Env = v }),
		y.Optional("limits", "Bounds of the step.", limits, func(s *Step, v Limits) { s.Limits = v }),
	)
}

func image() y.Shape[Image] {
	return y.Object(
		y.Optional("base", "Image input to build on: its layers are shipped as they are, below everything else.", name(), func(i *Image, v string) { i.Base = v }),
		y.Optional("packages", "Debian packages to ship, name[:architecture][=version], with all that they need; with base, what its dpkg database lists is there already.", requests(), func(i *Image, v []string) { i.Packages = v }),
		y.Default("scripts", "dpkg runs the packages' maintainer scripts in the sandbox; none only unpacks.", y.Word(ScriptsDpkg, ScriptsNone), "dpkg",
			func(i *Image, v Scripts) { i.Scripts = v }),
		y.Optional("essential", "Ship Debian's Essential set too. True by default with scripts: dpkg, false with none.", y.Boolean(), func(i *Image, v bool) { i.Essential = v }),
		y.Optional("without", "Packages to leave out of what is shipped although others need them; each is recorded as waived.",
			y.Unique("package", y.Matching(packagePattern, CheckPackageName), self), func(i *Image, v []string) { i.Without = v }),
		y.Optional("copy", "Files to bring from steps and inputs.", y.List(copies()), func(i *Image, v []Copy) { i.Copy = v }),
		y.Optional("accounts", "Users and groups of the image.", accounts(), func(i *Image, v Accounts) { i.Accounts = v }),
		y.Optional("config", "How containers of the image start (OCI image configuration).", config(), func(i *Image, v Config) { i.Config = v }),
		y.Default("layers", "grouped keeps the layers of unchanged packages between builds; single makes one layer.", y.Word(LayersGrouped, LayersSingle), "grouped",
			func(i *Image, v Layers) { i.Layers = v }),
	)
}

func copies() y.Shape[Copy] {
	mode := &y.Schema{AnyOf: []*y.Schema{{Type: "string", Pattern: modePattern}, {Type: "integer"}}}
	return y.Object(
		y.Required("from", "Name of a step or an input.", name(), func(c *Copy, v string) { c.From = v }),
		y.Default("path", "Absolute path in what the step or input holds; / for all of it.", inside(), "/", func(c *Copy, v string) { c.Path = v }),
		y.Required("to", "Absolute path in the image.", inside(), func(c *Copy, v string) { c.To = v }),
		y.Default("owner", "Numeric UID:GID of everything copied.", y.Matching(ownerPattern, checkOwner), `"0:0"`, func(c *Copy, v string) { c.Owner = v }),
		y.Optional("mode", "Permission bits of every regular file, octal like 0644; each file keeps its own by default.", y.Scalar(mode, parseMode),
			func(c *Copy, v uint32) { c.Mode = v }),
	)
}

func accounts() y.Shape[Accounts] {
	accountName := y.Matching(userPattern, checkUserName)
	user := y.Object(
		y.Required("name", "Name of the user.", accountName, func(u *User, v string) { u.Name = v }),
		y.Required("uid", "Number of the user.", y.Integer(0, maxID), func(u *User, v int64) { u.UID = int(v) }),
		y.Optional("gid", "Number of the user's group; the uid by default.", y.Integer(0, maxID), func(u *User, v int64) { u.GID = int(v) }),
		y.Default("home", "Home folder.", y.Convert(y.Text(), accountPath), "/nonexistent", func(u *User, v string) { u.Home = v }),
		y.Default("shell", "Login shell.", y.Convert(y.Text(), accountPath), "/usr/sbin/nologin", func(u *User, v string) { u.Shell = v }),
	)
	group := y.Object(
		y.Required("name", "Name of the group.", accountName, func(g *Group, v string) { g.Name = v }),
		y.Required("gid", "Number of the group.", y.Integer(0, maxID), func(g *Group, v int64) { g.GID = int(v) }),
		y.Optional("members", "Names of users in the group besides those whose gid it is.", y.Unique("member", accountName, self), func(g *Group, v []string) { g.Members = v }),
	)
	return y.Object(
		y.Optional("users", "Users to add.", y.List(user), func(a *Accounts, v []User) { a.Users = v }),
		y.Optional("groups", "Groups to add.", y.List(group), func(a *Accounts, v []Group) { a.Groups = v }),
		y.Optional("run-as", "User that containers run as: one of users, or root.", accountName, func(a *Accounts, v string) { a.RunAs = v }),
	)
}

func config() y.Shape[Config] {
	label := y.Matching(labelPattern, checkLabel)
	port := y.Scalar(&y.Schema{AnyOf: []*y.Schema{{Type: "string", Pattern: portPattern}, {Type: "integer"}}}, parsePort)
	return y.Object(
		y.Optional("entrypoint", "Command of the image, as a list of words.", y.List(y.Text()), func(c *Config, v []string) { c.Entrypoint = v }),
		y.Optional("cmd", "Arguments that a user of the image may replace.", y.List(y.Text()), func(c *Config, v []string) { c.Cmd = v }),
		y.Optional("env", "Environment variables of containers.", environment(), func(c *Config, v []Var) { c.Env = v }),
		y.Optional("working-dir", "Folder that containers start in.", inside(), func(c *Config, v string) { c.WorkingDir = v }),
		y.Optional("labels", "Labels, like org.opencontainers.image.title.", variables("label", label), func(c *Config, v []Var) { c.Labels = v }),
		y.Optional("ports", "Ports that the image serves: 80, 80/tcp, 53/udp.", sorted(y.Unique("port", port, self)), func(c *Config, v []string) { c.ExposedPorts = v }),
		y.Optional("volumes", "Paths that hold data which outlives containers.", sorted(y.Unique("volume", inside(), self)), func(c *Config, v []string) { c.Volumes = v }),
		y.Optional("stop-signal", "Signal that asks a container to end, like SIGTERM.", y.Matching(signalPattern, checkSignal), func(c *Config, v string) { c.StopSignal = v }),
	)
}

func name() y.Shape[string] {
	return y.Matching(namePattern, CheckName).With(func(c *y.Schema) { c.MaxLength = maxName })
}

func platform() y.Shape[Platform] {
	return y.Convert(y.Text(), ParsePlatform).With(func(c *y.Schema) {
		for _, p := range platforms {
			c.Enum = append(c.Enum, p.String())
		}
	})
}

// requests are packages to install; one name may be asked for once per architecture.
func requests() y.Shape[[]string] {
	return y.Unique("package", y.Matching(requestPattern, checkRequest), func(s string) string {
		r, _ := ParseRequest(s)
		if r.Arch != "" {
			return r.Name + ":" + r.Arch
		}
		return r.Name
	})
}

func inside() y.Shape[string] {
	return y.Convert(y.Text(), absolutePath).With(func(c *y.Schema) { c.Pattern = "^/" })
}

// limitTime: a day is more than any build that somebody would still wait for.
func limitTime() y.Shape[time.Duration] { return y.Duration(time.Second, 24*time.Hour, "1s", "24h") }

func environment() y.Shape[[]Var] { return variables("variable", y.Matching(envPattern, checkEnvName)) }

func variables(what string, key y.Shape[string]) y.Shape[[]Var] {
	return y.Rearrange(y.Dict(what, key, y.Text()), func(entries []y.Entry[string]) []Var {
		var vars []Var
		for _, e := range entries {
			vars = append(vars, Var{e.Key, e.Value})
		}
		return vars
	})
}

// named is a mapping from names to things that know their name.
func named[T any](what string, value y.Shape[T], set func(*T, string)) y.Shape[[]T] {
	return y.Rearrange(y.Dict(what, name(), value), func(entries []y.Entry[T]) []T {
		var all []T
		for _, e := range entries {
			set(&e.Value, e.Key)
			all = append(all, e.Value)
		}
		return all
	})
}

func words(what string, known []string) y.Shape[[]string] {
	return y.Unique(what, y.Word(known...), self)
}

func sorted(s y.Shape[[]string]) y.Shape[[]string] {
	return y.Rearrange(s, func(v []string) []string {
		sort.Strings(v)
		return v
	})
}

func self(s string) string { return s }
