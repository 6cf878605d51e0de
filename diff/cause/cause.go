// Package cause says why builds differ: findings of package diff in, causes
// out, each with evidence, proof and mend.
//
// [Find] takes a [diff.Result] and a [Context], which is what is known about the
// builds (facts of their hosts, times, steps, the definition); an empty Context
// is allowed, for images that Quorate did not build. Words:
//
//   - A cause is one entry of the catalogue (catalogue.go, the only list of
//     detectors), with the number it has there: "8-gzip-header".
//   - A claim is one detector saying that one finding, or one stretch of text in
//     it, is of its cause (claim.go). Findings that nobody claims are
//     [Unexplained]; no detector may guess.
//   - An effect is a finding that follows from others (diff.Finding.Effect): it
//     is folded into the causes of its file with a count.
//   - Proof: a cause is [Proven] when its normaliser, put to both sides, makes
//     them equal, and what it put away has the form or the known value of that
//     cause only. Otherwise it is [Likely], says why, and names what decides it.
//
// A comparison is read in this order, cheap to costly:
//
//	inputs.go    package lists and the like: when inputs differ, nothing below is non-determinism
//	fields.go    findings that are fields: a gzip time, a mode, an owner, a build-id
//	whiteout.go  deletions in a layer, in two forms
//	short.go     files that are cut short
//	whole.go     two whole texts: permuted keys, keys made anew, half a file
//	order.go     permuted lines: by a locale's rules, lists and joined contents of files, or a hash
//	line.go      two lines: known values, dates, random names, numbers
//	binary.go    two stretches of bytes: times, pointers, random bytes
//	elf.go       programs as wholes: strings, symbols, attributes of debug information
//	first.go     the first step that differs, and the files that it is the root of
//	measured.go  profiles, tuned plans, numbers apart by rounding
//	verdict.go   what the split into classes and the causes together say
//	mend.go      what to write to mend it; fix.go writes it into quorate.yaml
//
// Everything is bounded: of a file larger than maxText only the findings are
// looked at, and a cause keeps maxEvidence pairs of values and counts the rest.
// The same result and context give the same report, byte for byte.
package cause

import (
	"iter"
	"time"
)

// Context is what is known about the builds beside their outputs.
type Context struct {
	Title      string    // of what was built: "greeter", "acme/api:1.4"; "" for none
	Sides      []Facts   // one for each side of the result, in its order; shorter or nil where nothing is known
	Epoch      time.Time // SOURCE_DATE_EPOCH; zero when unknown
	Definition []byte    // quorate.yaml, to find the step and the line; nil when there is none
	Locked     bool      // all sides were built from one lock
	Inputs     int       // number of locked inputs, for the report
	// Lists returns what two sides have otherwise after a step, by its number in their Facts.Steps from
	// 0: sorted paths, without What. An error comes last, and undoes all that came before. Nil: nobody knows.
	Lists   func(step, a, b int) iter.Seq2[StepPath, error]
	Command string // that compares these sides again: "quorate diff a b"; "" for "quorate diff A B"
}

// Facts is what the record of one build says about its host. Known names of
// Values, all optional:
//
//	hostname user uid home shell email path         who and where (cause 18)
//	workdir tmpdir                                  folders of the build (3)
//	kernel kernel-version machine                   uname -r, -v, -m (19)
//	cpus                                            number of CPUs the build saw (20)
//	cpu-model cpu-vendor cpu-flags                  (21)
//	first-pid pid-max                               (23)
//	locale timezone utc-offset                      "C.UTF-8"; "Asia/Kolkata"; "+0530" (16, 17)
//	directory-order filesystem umask address-space
//
// Other names take part in the comparison of classes with hosts only.
type Facts struct {
	Name     string            `json:"name,omitempty"` // of the rebuilder: "local-1"; "" takes the side's own
	Host     string            `json:"host,omitempty"` // equal for builds on one machine; "" when unknown
	Values   map[string]string `json:"values,omitempty"`
	Started  time.Time         `json:"started,omitzero"`
	Finished time.Time         `json:"finished,omitzero"`
	Steps    []Step            `json:"steps,omitempty"` // in order of running
}

// Step is what one step left.
type Step struct {
	Name     string `json:"name"`
	Platform string `json:"platform,omitempty"`
	Tree     string `json:"tree"` // digest of the listing of its output
}

// Proof says how sure a cause is.
type Proof string

const (
	Proven Proof = "proven" // the counterfactual holds, and only this cause has such values
	Likely Proof = "likely" // see Cause.Confidence and Cause.Why
)

// Report is everything that a developer should get.
type Report struct {
	Title       string        `json:"title,omitempty"`
	Same        bool          `json:"same"`
	Sides       []SideReport  `json:"sides"`
	Classes     [][]int       `json:"classes"`
	Depends     Depends       `json:"depends"`
	Inputs      []InputChange `json:"inputs,omitempty"`      // when not empty, nothing else need be looked at first
	InputsKnown bool          `json:"inputsKnown,omitempty"` // the builds are known to have had the same lock
	InputCount  int           `json:"inputCount,omitempty"`
	Toolchain   string        `json:"toolchain,omitempty"` // "identical (GCC: (Debian 12.2.0) 12.2.0)", "differ"; "" when unknown
	First       *FirstStep    `json:"firstStep,omitempty"`
	Total       Total         `json:"total"`
	Causes      []*Cause      `json:"causes"`
	Unexplained []Unexplained `json:"unexplained,omitempty"`
	Predicted   []string      `json:"predicted,omitempty"` // files that still differ when all numbered causes are mended
	Next        []string      `json:"next,omitempty"`      // commands
	Areas       []Area        `json:"areas,omitempty"`     // where the differences lie, for a tree map
}

// SideReport is one of the things compared.
type SideReport struct {
	Name   string            `json:"name"`
	Label  string            `json:"label"` // the part of Name in which the sides differ
	Digest string            `json:"digest"`
	Class  int               `json:"class"` // from 0
	Facts  map[string]string `json:"facts,omitempty"`
}

// Depends says what kind of thing the difference hangs on.
type Depends struct {
	On   []string `json:"on,omitempty"` // of "host", "time", "chance", "order", "tools", "inputs"; empty when unknown
	Says string   `json:"says"`         // one line for people
	Fact string   `json:"fact,omitempty"`
}

// Total sums the report up. Bytes are those of both sides.
type Total struct {
	Files          int   `json:"files"`
	Differing      int   `json:"differing"`
	Explained      int   `json:"explained"` // of Differing: every finding has a cause
	Bytes          int64 `json:"bytes"`     // differing
	ExplainedBytes int64 `json:"explainedBytes"`
	Effects        int   `json:"effects"` // findings folded into their causes
}

// Cause is one reason for differences.
type Cause struct {
	Number     int        `json:"number"` // in this report, from 1: what --fix takes
	ID         string     `json:"id"`     // "3-build-path"
	Title      string     `json:"title"`
	Proof      Proof      `json:"proof"`
	Confidence float64    `json:"confidence"` // 1 when proven
	How        string     `json:"how"`        // the proof, or why it is only likely
	Confirm    string     `json:"confirm,omitempty"`
	Kind       string     `json:"kind"`            // as in Depends.On
	Step       string     `json:"step,omitempty"`  // of the definition; the first that differs, where the file differs there already
	After      string     `json:"after,omitempty"` // the first step that differs, when Step reads what that one left
	Line       string     `json:"line,omitempty"`  // of the step's run, when one names the file
	Files      []string   `json:"files"`
	MoreFiles  int        `json:"moreFiles,omitempty"` // so many more of a layer that stands among Files: too many to name
	Sites      int        `json:"sites"`               // differing places
	Bytes      int64      `json:"bytes"`               // owned, of both sides
	Folded     []Fold     `json:"folded,omitempty"`
	Evidence   []Evidence `json:"evidence"` // at most maxEvidence of Sites
	Mend       Mend       `json:"mend"`

	entry   *entry
	files   map[string]bool
	entries map[string]int // of a layer's files that have no name here: how many
	least   float64
	clean   bool // some file is identical without what is claimed
}

// Count is how many files the cause is found in.
func (k *Cause) Count() int { return len(k.Files) + k.MoreFiles }

// Fold is a kind of effect that was folded into a cause.
type Fold struct {
	What  string `json:"what"`
	Count int    `json:"count"`
}

// Evidence is one differing pair of values.
type Evidence struct {
	Path   string `json:"path"`             // in the image; "" for its documents
	Inside string `json:"inside,omitempty"` // the way on from there: ".debug_str", "META-INF/MANIFEST.MF"
	Where  string `json:"where,omitempty"`  // "line 4", "+0x31", "mtime"
	A      string `json:"a"`
	B      string `json:"b"`
	Fact   string `json:"fact,omitempty"` // what the values are: "= hostname of each host"
	Sides  [2]int `json:"sides"`          // numbers of the sides compared
}

// Unexplained is a file with differences that no detector claims.
type Unexplained struct {
	Path   string `json:"path"`
	Inside string `json:"inside,omitempty"`
	Step   string `json:"step,omitempty"` // as a cause's
	Bytes  int64  `json:"bytes"`          // of the larger side
	Of     int64  `json:"of"`             // size of the larger side
	Offset int64  `json:"offset"`         // of the first; -1 when it lies in no byte
	What   string `json:"what"`           // of the first finding
	A      string `json:"a"`
	B      string `json:"b"`
	More   int    `json:"more,omitempty"` // further findings
	Sides  [2]int `json:"sides"`
}

// InputChange is an input that differs between two sides.
type InputChange struct {
	What string `json:"what"` // "package", "file", "source"
	Name string `json:"name"`
	A    string `json:"a"` // version or digest; "" for none
	B    string `json:"b"`
}

// Area is a file of the tree map.
type Area struct {
	Layer  string `json:"layer,omitempty"`
	Path   string `json:"path"`
	Bytes  int64  `json:"bytes"` // differing, at least 1
	Causes []int  `json:"causes,omitempty"`
}

// Mend is how to make the difference go away.
type Mend struct {
	Lines []string `json:"lines"`           // what a maintainer writes; YAML paths of quorate.yaml or commands
	Edits []Edit   `json:"edits,omitempty"` // the same as changes of quorate.yaml, when it is one
}

// Edit is one change of quorate.yaml; see Fix.
type Edit struct {
	Step  string `json:"step"`
	Env   string `json:"env,omitempty"`  // name of a variable that is set to To
	From  string `json:"from,omitempty"` // a whole line of run, without indentation, that becomes To; with Delete it goes
	To    string `json:"to,omitempty"`
	First bool   `json:"first,omitempty"` // To becomes the first line of run
	Last  bool   `json:"last,omitempty"`  // To becomes the last line of run
	Gone  bool   `json:"gone,omitempty"`  // the line From is taken out
}

// Limits, so that a report of any two images stays small.
const (
	maxEvidence = 60       // pairs of values kept for a cause; a reader looks at three, a program at some more
	maxValue    = 240      // bytes of a value kept: two fit a wide screen
	maxText     = 4 << 20  // bytes of a text that is read whole: its lines twice, sorted, take ten times as much; larger ones are read line by line
	maxLine     = 16 << 10 // bytes of a line that is looked at
	maxFacts    = 64       // facts of a host that are searched for
	maxAreas    = 400      // files in the tree map
)
