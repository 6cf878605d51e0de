package deb

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
)

// question is all that an answer depends on: whoever asks the same again, by
// the same rules, of the same signed indexes, gets the same answer. Apt need not
// be asked, nor a list of packages be read.
type question struct {
	Rules      string // Options.Rules
	Native     string // apt's own architecture, of whose list its closure is chosen
	Suite      string
	Components []string
	Pockets    []string
	Platforms  []definition.Platform
	Sets       []lockfile.SetRequest
	Sources    []SourceRequest
	Bases      []Base
	Archives   []lockfile.Archive // by digest of the signed index
}

// remembered is the file of an answer; "" when none is kept. An answer that
// keeps to an earlier lock depends on that too, and is not kept.
func (r *resolution) remembered() string {
	if r.opts.Rules == "" || r.q.Keep {
		return ""
	}
	text, err := json.Marshal(question{r.opts.Rules, r.native, r.q.Suite, r.q.Components, r.q.Pockets, r.q.Platforms, r.q.Sets, r.q.Sources, r.q.Bases, r.answer.Archives})
	if err != nil {
		return ""
	}
	return filepath.Join(r.opts.Cache, "answer-"+digest.Of(text).Hex())
}

// recall reads an answer that was given before. What cannot be read was not given.
func (r *resolution) recall() bool {
	name := r.remembered()
	if name == "" {
		return false
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return false
	}
	sum, body, ok := bytes.Cut(text, []byte("\n"))
	var a Answer
	if !ok || string(sum) != digest.Of(body).Hex() || json.Unmarshal(body, &a) != nil || len(a.Platforms) != len(r.q.Platforms) || len(a.Inputs) != len(r.q.Sources) {
		return false
	}
	now := time.Now()
	_ = os.Chtimes(name, now, now) // it is still of use (tidy)
	a.Archives = r.answer.Archives
	r.answer = &a
	return true
}

// remember keeps an answer. That it cannot be kept is no failure.
func (r *resolution) remember() {
	name := r.remembered()
	if name == "" {
		return
	}
	body, err := json.Marshal(r.answer)
	if err != nil {
		return
	}
	tmp, err := os.CreateTemp(r.opts.Cache, "answer-*.part")
	if err != nil {
		return
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(append([]byte(digest.Of(body).Hex()+"\n"), body...))
	if cerr := tmp.Close(); err != nil || cerr != nil {
		return
	}
	_ = os.Rename(tmp.Name(), name)
}
