package agreement

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/keyfile"
)

// The simulation: up to 50 rebuilders that are honest, broken or in league with each
// other submit what such rebuilders would, and Judge's decision is held against an
// oracle that knows who did what. The oracle is written from the package comment
// and shares no code with Judge: it counts people in a world, not reports.

const mostSimulated = 50

// player is one rebuilder of a world.
type player struct {
	name     string
	operator int
	machine  int // 0: does not say
	does     string
	image    string // what its report names, when it has one
	inputs   string
}

// The ways in which players play. Those with a report that counts name image and inputs.
var plays = []string{
	"honest", "honest", "honest", "honest", "honest", "honest", // most are
	"broken",      // another image, from the same inputs
	"league",      // the image that a league wants signed
	"league",      //
	"inputs",      // the right image, from other inputs
	"twofaced",    // two reports, two images
	"retried",     // failed once, then honest
	"twice",       // the same report twice
	"silent",      // no submission at all
	"late",        // timeout
	"failed",      // error
	"empty",       // a report of nothing
	"replay",      // an honest report for an older request
	"otherlock",   // an honest report about another lock
	"otherdef",    // an honest report about another definition
	"forged",      // signed with a key that is not enrolled
	"borrowed",    // signed with its own key, in another's name
	"undescribed", // does not say what it was built from
}

// counts says whether a way of playing leads to a report that counts.
func counts(does string) bool {
	return slices.Contains([]string{"honest", "broken", "league", "inputs", "twofaced", "retried", "twice"}, does)
}

// world is a policy and its players.
type world struct {
	policy  *Policy
	players []player
}

var manyKeys = sync.OnceValue(func() []keyfile.PublicKey {
	keys := make([]keyfile.PublicKey, mostSimulated+1)
	for i := range keys {
		key, err := keyfile.Generate()
		if err != nil {
			panic(err)
		}
		keys[i] = key.Public()
	}
	return keys
})

func anyWorld(t *rapid.T) *world {
	n := rapid.IntRange(1, mostSimulated).Draw(t, "rebuilders")
	// Few operators and machines, so that they meet.
	operators, machines := rapid.IntRange(1, n).Draw(t, "operators"), rapid.IntRange(0, n).Draw(t, "machines")
	w := &world{policy: &Policy{AllowDissent: rapid.Bool().Draw(t, "dissent allowed")}}
	used := map[int]bool{}
	// Most worlds have no dissenter or one, or nearly all would disagree.
	troubled, troublemaker := rapid.IntRange(0, 2).Draw(t, "trouble"), rapid.IntRange(0, n-1).Draw(t, "troublemaker")
	for i := range n {
		ways := plays
		if troubled < 2 && (troubled == 0 || i != troublemaker) {
			ways = []string{"honest", "honest", "honest", "retried", "twice", "inputs", "silent", "late", "failed", "replay", "forged"}
		}
		p := player{
			name: fmt.Sprintf("r%02d", i), operator: rapid.IntRange(0, operators-1).Draw(t, "operator"), machine: rapid.IntRange(0, machines).Draw(t, "machine"),
			does: rapid.SampledFrom(ways).Draw(t, "does"), image: "right", inputs: "inputs",
		}
		switch p.does {
		case "broken":
			p.image = "broken" + rapid.SampledFrom([]string{"1", "2", "3"}).Draw(t, "how")
		case "league":
			p.image = "evil"
		case "inputs":
			p.inputs = "others"
		}
		used[p.operator] = true
		w.players = append(w.players, p)
		w.policy.Rebuilders = append(w.policy.Rebuilders, Rebuilder{Name: p.name, Operator: fmt.Sprintf("op%02d", p.operator), Key: manyKeys()[i]})
	}
	w.policy.Threshold = rapid.IntRange(1, n).Draw(t, "threshold")
	for attribute, most := range map[string]int{"operator": len(used), "key": n, "machine": n} {
		if rapid.Bool().Draw(t, "rule of "+attribute) {
			if w.policy.Distinct == nil {
				w.policy.Distinct = map[string]int{}
			}
			w.policy.Distinct[attribute] = rapid.IntRange(1, most).Draw(t, attribute)
		}
	}
	if err := w.policy.Check(); err != nil {
		t.Fatal(err)
	}
	return w
}

// submissions are what the players hand in.
func (w *world) submissions() []Submission {
	var all []Submission
	for i, p := range w.players {
		report := &Report{
			Rebuilder: p.name, KeyFingerprint: manyKeys()[i].Fingerprint(), Nonce: job.Nonce, Attempt: 1,
			Lock: job.Lock, Definition: job.Definition, BuildDefinition: of(p.inputs),
			Subjects:    []Subject{{Name: "app", Platform: "linux/amd64", Digest: of(p.image)}},
			Environment: map[string]string{},
			Statement:   of(p.name),
		}
		if p.machine > 0 {
			// A container's worker sees the kernel, one beside it the machine's id, too.
			report.Environment["boot-id"] = fmt.Sprint("boot", p.machine)
			if i%2 == 0 {
				report.Environment["machine-id"] = fmt.Sprint("machine", p.machine)
			}
		}
		submit := Submission{Rebuilder: p.name, Report: report}
		switch p.does {
		case "silent":
			continue
		case "late":
			submit = Submission{Rebuilder: p.name, Timeout: true}
		case "failed":
			submit = Submission{Rebuilder: p.name, Err: errors.New("boom")}
		case "retried":
			all = append(all, Submission{Rebuilder: p.name, Err: errors.New("lost")})
		case "twice":
			again := *report
			again.Attempt, again.Statement = 2, of(p.name+" again")
			all = append(all, Submission{Rebuilder: p.name, Report: &again})
		case "twofaced":
			other := *report
			other.Subjects, other.Statement = []Subject{{Name: "app", Platform: "linux/amd64", Digest: of("evil")}}, of(p.name+" too")
			all = append(all, Submission{Rebuilder: p.name, Report: &other})
		case "empty":
			report.Subjects = nil
		case "replay":
			report.Nonce = "older"
		case "otherlock":
			report.Lock = of("other lock")
		case "otherdef":
			report.Definition = of("other definition")
		case "forged":
			report.KeyFingerprint = manyKeys()[mostSimulated].Fingerprint()
		case "borrowed":
			report.Rebuilder = w.players[(i+1)%len(w.players)].name + "x"
		case "undescribed":
			report.BuildDefinition = digest.Digest{}
		}
		all = append(all, submit)
	}
	return all
}

// camp is who stands behind one answer.
type camp struct {
	image, inputs string
	who           []int
}

// oracle says whether the world may be signed for, and which image.
func (w *world) oracle() (image string, sign bool) {
	var camps []camp
	twofaced := false
	for i, p := range w.players {
		switch {
		case !counts(p.does):
		case p.does == "twofaced":
			twofaced = true
		default:
			at := slices.IndexFunc(camps, func(c camp) bool { return c.image == p.image && c.inputs == p.inputs })
			if at < 0 {
				camps, at = append(camps, camp{image: p.image, inputs: p.inputs}), len(camps)
			}
			camps[at].who = append(camps[at].who, i)
		}
	}
	if len(camps) == 0 {
		return "", false
	}
	// The only largest camp wins.
	win, ties := camps[0], 0
	for _, c := range camps {
		if len(c.who) > len(win.who) {
			win = c
		}
	}
	otherImage, rival := false, false
	for _, c := range camps {
		if len(c.who) == len(win.who) {
			ties++
		}
		if c.image != win.image {
			otherImage = true
			rival = rival || w.fulfils(c)
		}
	}
	if ties > 1 {
		return "", false
	}
	if (twofaced || otherImage) && !w.policy.AllowDissent {
		return "", false
	}
	return win.image, !rival && w.fulfils(win)
}

// fulfils says whether a camp is what the policy asks for.
func (w *world) fulfils(c camp) bool {
	if len(c.who) < w.policy.Threshold {
		return false
	}
	for attribute, least := range w.policy.Distinct {
		have := map[string]int{"key": len(c.who), "operator": w.independent(c), "machine": w.machines(c)}[attribute]
		if have < least {
			return false
		}
	}
	return true
}

func (w *world) machines(c camp) int {
	set := map[int]bool{}
	for _, i := range c.who {
		if m := w.players[i].machine; m > 0 {
			set[m] = true
		}
	}
	return len(set)
}

// independent walks from operator to operator over the machines that they share.
func (w *world) independent(c camp) int {
	seen := map[int]bool{}
	var walk func(operator int)
	walk = func(operator int) {
		if seen[operator] {
			return
		}
		seen[operator] = true
		for _, i := range c.who {
			for _, j := range c.who {
				a, b := w.players[i], w.players[j]
				if a.operator == operator && a.machine > 0 && a.machine == b.machine {
					walk(b.operator)
				}
			}
		}
	}
	groups := 0
	for _, i := range c.who {
		if o := w.players[i].operator; !seen[o] {
			groups++
			walk(o)
		}
	}
	return groups
}

// TestSimulation: Judge never agrees below the policy, and always does when it holds.
func TestSimulation(t *testing.T) {
	signed, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		w := anyWorld(t)
		submissions := rapid.Permutation(w.submissions()).Draw(t, "order")
		verdict, agreed := Judge(job, w.policy, submissions)
		image, sign := w.oracle()
		if got := verdict.Decision == Agree; got != sign || got != (agreed != nil) {
			t.Fatalf("decided %s (%v), but the oracle says that signing is %v; players %+v, policy %d %v %v",
				verdict.Decision, verdict.Reasons, sign, w.players, w.policy.Threshold, w.policy.Distinct, w.policy.AllowDissent)
		}
		if len(verdict.Outcomes) != len(w.players) {
			t.Fatalf("%d outcomes of %d rebuilders", len(verdict.Outcomes), len(w.players))
		}
		if !sign {
			refused++
			return
		}
		signed++
		if got := agreed.Subjects(); len(got) != 1 || got[0].Digest != of(image) {
			t.Fatalf("agreed on %v, the oracle on %s", got, image)
		}
		for i, o := range verdict.Outcomes {
			p := w.players[i]
			if agrees := o.Result == Agrees; agrees && (!counts(p.does) || p.does == "twofaced" || p.image != image) {
				t.Fatalf("%s, who is %s with %s, is said to agree on %s", p.name, p.does, p.image, image)
			}
		}
	})
	if signed == 0 || refused == 0 {
		t.Errorf("of the worlds %d were signed for and %d not: the test shows nothing", signed, refused)
	}
	t.Logf("%d worlds signed for, %d not", signed, refused)
}
