package cause

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// verdict says whether the difference hangs on the host, on time, on chance …: from the
// split of the sides into classes where there are enough sides, and from the causes.
func (s *search) verdict() {
	r := s.report
	if r.Same {
		r.Depends.Says = "all sides are the same"
		return
	}
	if len(r.Inputs) > 0 {
		r.Depends = Depends{On: []string{"inputs"}, Says: fmt.Sprintf("the INPUTS differ (%s): that is no non-determinism; lock them first", plural(len(r.Inputs), "package"))}
		return
	}
	if s.bySplit() {
		return
	}
	kinds := map[string]bool{}
	for _, k := range r.Causes {
		kinds[k.Kind] = true
	}
	words := map[string]string{"time": "TIME", "chance": "CHANCE", "host": "the HOST", "order": "the ORDER of the file system or of jobs", "tools": "the TOOLS", "inputs": "the INPUTS"}
	var says []string
	for _, k := range []string{"inputs", "tools", "host", "order", "time", "chance"} {
		if kinds[k] {
			r.Depends.On = append(r.Depends.On, k)
			says = append(says, words[k])
		}
	}
	switch {
	case len(says) == 0:
		r.Depends.Says = "it is not known what it depends on; build once more on one of the hosts"
	case len(r.Unexplained) > 0:
		r.Depends.Says = "depends on " + join(says) + ", as far as it is explained"
	default:
		r.Depends.Says = "depends on " + join(says)
	}
}

func join(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}

// bySplit holds the classes of equal outputs against the hosts' facts. Two sides prove
// nothing; three or more, or one host twice, do.
func (s *search) bySplit() bool {
	r := s.report
	class := make([]int, len(r.Sides))
	for i := range r.Sides {
		class[i] = r.Sides[i].Class
	}
	host := make([]string, len(r.Sides))
	for i := range host {
		host[i] = s.facts(i).Host
	}
	twice, split := false, false
	for i := range host {
		for j := range i {
			if host[i] != "" && host[i] == host[j] && s.sameFacts(i, j) {
				twice = true
				split = split || class[i] != class[j]
			}
		}
	}
	switch {
	case split:
		r.Depends = Depends{On: []string{"chance"}, Says: "depends on CHANCE or TIME: one host under the same conditions built two different images"}
		return true
	case len(r.Sides) < 3:
		return false
	}
	if len(r.Classes) == len(r.Sides) {
		return false // all differ: any fact that differs everywhere fits
	}
	if fact := s.fits(class); fact != "" {
		r.Depends = Depends{On: []string{"host"}, Fact: fact, Says: fmt.Sprintf("depends on the HOST, not on chance: builds with equal %q are equal", fact)}
		return true
	}
	if twice {
		r.Depends = Depends{On: []string{"host"}, Says: "depends on the HOST, not on chance: one host built the same bytes twice"}
		return true
	}
	return false
}

func (s *search) sameFacts(i, j int) bool {
	a, b := maps.Clone(s.facts(i).Values), maps.Clone(s.facts(j).Values)
	return maps.Equal(a, b)
}

// fits returns a fact whose values split the sides just as their outputs do.
func (s *search) fits(class []int) string {
	names := map[string]bool{}
	for i := range class {
		for k := range s.facts(i).Values {
			names[k] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		ok := true
		for i := range class {
			for j := range i {
				ok = ok && (s.facts(i).Values[name] == s.facts(j).Values[name]) == (class[i] == class[j])
			}
		}
		if ok {
			return name
		}
	}
	return ""
}

func (s *search) toolchain() {
	r := s.report
	for _, k := range r.Causes {
		if k.ID == "38-toolchain" {
			r.Toolchain = "differs (see " + fmt.Sprint(k.Number) + ")"
			return
		}
	}
	if r.InputsKnown {
		r.Toolchain = "identical (from the same lock)"
	}
}

// next names the commands that lead on.
func (s *search) next() {
	r := s.report
	if r.Same {
		return
	}
	for _, u := range r.Unexplained {
		if len(r.Predicted) < 100 {
			r.Predicted = append(r.Predicted, u.Path)
		}
	}
	slices.Sort(r.Predicted)
	r.Predicted = slices.Compact(r.Predicted)
	command := s.context.Command
	if command == "" {
		command = "quorate diff A B"
	}
	var fixable []string
	for _, k := range r.Causes {
		if len(k.Mend.Edits) > 0 {
			fixable = append(fixable, fmt.Sprint(k.Number))
		}
	}
	if len(fixable) > 0 {
		r.Next = append(r.Next, command+" --fix "+strings.Join(fixable, ","))
	}
	if len(r.Unexplained) > 0 {
		r.Next = append(r.Next, command+" --file "+ShellQuote(s.unexplainedPath()))
	}
	if len(r.Next) == 0 && len(r.Causes) > 0 && r.Causes[0].Confirm != "" {
		r.Next = append(r.Next, r.Causes[0].Confirm)
	}
}

// unexplainedPath is a file to look into: documents of the image have no path.
func (s *search) unexplainedPath() string {
	for _, u := range s.report.Unexplained {
		if !strings.HasPrefix(u.Path, "image ") && u.Path != wholeArchive {
			return u.Path
		}
	}
	return s.report.Unexplained[0].Path
}

// ShellQuote writes a word as a shell reads it back, in quotes only where it must.
func ShellQuote(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/+-@:") == "" && s != "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
