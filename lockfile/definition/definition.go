// Package definition reads quorate.yaml, in which a user says what image to
// build. It decides what the file may say and nothing else: it reads no other
// file, asks no network and no clock.
//
// [Parse] turns the bytes of the file into a [Definition] with every default
// filled in and every rule checked, or into all mistakes of the file at once
// (*[Errors]), each with line, column, the line itself and, where a word is
// nearly right, the word that was probably meant. [Schema] gives the same
// rules to editors, as JSON Schema; both come from the one table in fields.go.
//
// The words: everything from outside the project, and its own source tree, is
// an input (Debian packages, files by https, local trees). Steps run commands
// on inputs and on what earlier steps made. The image is made of packages and
// of what is copied from inputs and steps.
//
//	d, err := definition.Parse("quorate.yaml", []byte(`
//	apiVersion: quorate/v1
//	name: greeter
//	platforms: [linux/amd64]
//	epoch: 2026-11-01T00:00:00Z
//	inputs:
//	  debian: {suite: bookworm}
//	image:
//	  packages: [ca-certificates]
//	`))
//	// d.Inputs.Debian.Components is ["main"], d.Image.Scripts is "dpkg"
//
// A definition is strict: an unknown field, a field given twice, an anchor, a
// number where text is meant (version: 1.0) is an error, because each of them
// is a build that is not what its author believes.
package definition

import "time"

// FileName is the definition's name in a project folder.
const FileName = "quorate.yaml"

// Definition is a whole quorate.yaml. Every default is filled in by Parse.
type Definition struct {
	APIVersion string     // "quorate/v1"
	Name       string     // image name: lower-case letters, digits, "-", "_", "."
	Platforms  []Platform // at least one; sorted as written
	Epoch      Epoch
	Inputs     Inputs
	Steps      []Step
	Image      Image
}

// Platform is an OCI platform, "linux/amd64".
type Platform struct {
	OS           string
	Architecture string // as GOARCH writes it
	Variant      string
}

// Epoch is SOURCE_DATE_EPOCH of the build: a time, or the time of a git commit.
type Epoch struct {
	Time       time.Time // UTC, whole seconds; zero when FromCommit
	FromCommit bool      // "commit": the committer time of the project folder's HEAD, or of CommitOf's commit
	CommitOf   string    // "commit:NAME": the git input; "" for the project folder
}

// Inputs is everything that comes from outside.
type Inputs struct {
	Debian  *Debian         // nil when no Debian archive is asked for
	Local   []Local         // sorted by Name, as all that follow
	Files   []File          //
	Sources []SourcePackage // only with Debian
	Git     []Git           //
	Images  []BaseImage     //
	Go      []Project       // modules of go.mod and go.sum, or of go.work
	Npm     []Project       // packages of package-lock.json
	Python  []Project       // distributions of requirements.txt or pylock.toml
	Cargo   []Project       // crates of Cargo.lock
}

// Debian names the suite that packages come from.
type Debian struct {
	Suite      string   // "bookworm", "trixie"
	Components []string // ["main"] by default
	Pockets    []string // ["updates", "security"] by default, besides the suite itself
	SignedBy   []string // paths of OpenPGP key files, relative to the definition; empty for the keys shipped with Quorate
}

// Local is a tree of files beside the definition.
type Local struct {
	Name string
	Path string // relative to the definition, clean, may not leave it
}

// File is one file brought by https.
type File struct {
	Name   string
	URL    string
	Unpack bool // a tar (gz, xz, zst, bz2) or zip archive, shown unpacked
}

// SourcePackage is what a Debian package was made from: an upstream tarball,
// as the archive of inputs.debian has it.
type SourcePackage struct {
	Name    string
	Package string // name of the source package: "jansson", which libjansson4 was made from
	Version string // Debian's, "2.14-2"; "" for the archive's newest
	Unpack  Unpack
}

// Unpack says what a step sees of a source package.
type Unpack string

// The ways to show a source package.
const (
	UnpackUpstream Unpack = "upstream" // the tarball as its authors published it, unpacked; the default
	UnpackDebian   Unpack = "debian"   // the same with Debian's folder debian/; its patches lie there, not applied
	UnpackNone     Unpack = "none"     // all files as the archive has them, the .dsc among them
)

// Git is the tree of one commit of a git repository.
type Git struct {
	Name       string
	URL        string   // https or ssh; a file URL for repositories of this machine
	Ref        string   // branch, tag, or full name of a commit; "HEAD" by default
	Submodules bool     // with the files of submodules, and of theirs
	SignedBy   []string // paths of SSH or OpenPGP key files, relative to the definition: one of them must have signed the tag or the commit
}

// BaseImage is an image that somebody else made.
type BaseImage struct {
	Name   string
	Image  string // reference in a registry ("registry.example/name:tag"), or "oci:PATH" for a layout beside the definition
	Policy string // path of a policy that must verify it when it is locked, relative to the definition; "" for none
}

// Project is what a project's own lock file names, as its ecosystem writes it.
type Project struct {
	Name      string
	From      string   // name of the local or git input that the lock file lies in
	Path      string   // folder of it in there, "." by default; of Python, the file itself
	Toolchain string   // of Go: version of the toolchain to lock too ("go1.26.0"); "" for none
	Retracted []string // of Go: versions that are accepted although their author retracted them, "example.org/m@v1.2.0"
	Python    string   // of Python: version that wheels must fit ("3.11"); "" for any

	Signatures string   // of npm: "required" or "off"; "" to check those that a registry offers
	SignedBy   []string // of npm: paths of files of registry keys, relative to the definition; empty for those that registries offer
}

// Step is one isolated command.
type Step struct {
	Name     string
	Root     string   // name of the image input whose files are the root, with packages added to it; "" for packages alone
	Packages []string // requests, "gcc" or "gcc:arm64" or "gcc=4:12.2.0-3"
	Inputs   []string // names of inputs and of earlier steps; shown read-only at /inputs/NAME
	Run      string   // handed to /bin/sh -euc
	Env      []Var    // in order of name
	Limits   Limits
}

// Var is one environment variable.
type Var struct {
	Name, Value string
}

// Limits bound a step; zero means Quorate's default (package sandbox).
type Limits struct {
	Time      time.Duration
	Memory    int64 // bytes
	Processes int
	Disk      int64 // bytes
}

// Scripts says who runs packages' maintainer scripts.
type Scripts string

// How packages are installed into the image.
const (
	ScriptsDpkg Scripts = "dpkg" // the real dpkg runs them in the sandbox
	ScriptsNone Scripts = "none" // packages are only unpacked (distroless style, status.d metadata)
)

// Image is what is shipped.
type Image struct {
	Base      string // name of the image input that everything else is laid over, packages too; "" for none
	Packages  []string
	Scripts   Scripts  // dpkg by default
	Essential bool     // ship the Essential set too; true by default with scripts: dpkg, false with none
	Without   []string // package names left out of what is shipped
	Copy      []Copy
	Accounts  Accounts
	Config    Config
	Layers    Layers
}

// Copy brings files from a step's $OUT or from an input into the image.
type Copy struct {
	From  string // name of a step or an input
	Path  string // absolute path inside From's tree, "/" for all of it
	To    string // absolute path in the image
	Owner string // numeric "UID:GID"; "0:0" by default
	Mode  uint32 // permission bits for every regular file; 0 keeps each file's own
}

// Accounts are added to /etc/passwd and /etc/group.
type Accounts struct {
	Users  []User
	Groups []Group
	RunAs  string // name of a user; becomes config.User
}

// User is one line of /etc/passwd.
type User struct {
	Name  string
	UID   int
	GID   int    // UID by default
	Home  string // "/nonexistent" by default
	Shell string // "/usr/sbin/nologin" by default
}

// Group is one line of /etc/group.
type Group struct {
	Name    string
	GID     int
	Members []string
}

// Config is the part of the OCI image configuration that users set.
type Config struct {
	Entrypoint   []string
	Cmd          []string
	Env          []Var
	WorkingDir   string
	Labels       []Var    // sorted by name
	ExposedPorts []string // "80/tcp", sorted
	Volumes      []string // sorted
	StopSignal   string
}

// Layers is the strategy that divides packages into layers.
type Layers string

// The strategies.
const (
	LayersGrouped Layers = "grouped" // base, groups of packages, state, copies; the default
	LayersSingle  Layers = "single"  // one layer
)
