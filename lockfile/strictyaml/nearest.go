package strictyaml

import (
	"fmt"
	"sort"
	"strings"
)

// Nearest returns the candidates that word may have been meant to be, best
// first, at most three. Near means: a third of the letters may be wrong (a
// missing, extra, other or swapped letter is one mistake), or one is the other
// with an ending ("nginx", "nginx-core"), which comes after all misspellings.
func Nearest(word string, candidates []string) []string {
	type near struct {
		name     string
		distance int
	}
	// Names longer than this are not misspelt by hand, and the cost is quadratic.
	const longest = 128
	if word == "" || len(word) > longest {
		return nil
	}
	most := max(1, len(word)/3)
	lower := strings.ToLower(word)
	var found []near
	seen := map[string]bool{}
	for _, c := range candidates {
		if c == word || c == "" || len(c) > longest || seen[c] {
			continue
		}
		seen[c] = true
		l := strings.ToLower(c)
		d := most + 1
		if diff := len(l) - len(lower); diff <= most && -diff <= most {
			d = distance(lower, l, most)
		}
		if d > most && len(lower) >= 3 && (strings.HasPrefix(l, lower) || len(l) >= 3 && strings.HasPrefix(lower, l)) {
			d = most + 1 + max(len(l)-len(lower), len(lower)-len(l))
		} else if d > most {
			continue
		}
		found = append(found, near{c, d})
	}
	sort.Slice(found, func(i, j int) bool {
		if found[i].distance != found[j].distance {
			return found[i].distance < found[j].distance
		}
		return found[i].name < found[j].name
	})
	var names []string
	for _, f := range found {
		best := found[0].distance
		// When one letter mends the word, what needs two is hardly meant.
		if len(names) == 3 || best <= most && f.distance > min(most, best+best/2) {
			break
		}
		names = append(names, f.name)
	}
	return names
}

// distance counts the mistakes between two words (optimal string alignment:
// Levenshtein's edits and swaps of neighbours), and stops beyond most.
func distance(a, b string, most int) int {
	before, last, this := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		this[0] = i
		best := i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d := min(last[j]+1, this[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, before[j-2]+1)
			}
			this[j] = d
			best = min(best, d)
		}
		if best > most {
			return most + 1
		}
		before, last, this = last, this, before
	}
	return last[len(b)]
}

// DidYouMean returns `; did you mean "x"?`, or "" when nothing is near.
func DidYouMean(word string, candidates []string) string {
	near := Nearest(word, candidates)
	if len(near) == 0 {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", Alternatives(near))
}

// Alternatives writes `"a"`, `"a" or "b"`, `"a", "b" or "c"`.
func Alternatives(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = fmt.Sprintf("%q", w)
	}
	if len(quoted) == 1 {
		return quoted[0]
	}
	return strings.Join(quoted[:len(quoted)-1], ", ") + " or " + quoted[len(quoted)-1]
}
