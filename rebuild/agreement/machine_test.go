package agreement

import (
	"strings"
	"testing"
)

// at puts a report on a machine: "boot-id=1 engine-id=2".
func at(facts string) func(*Report) {
	return func(r *Report) {
		r.Environment = map[string]string{}
		for f := range strings.FieldsSeq(facts) {
			name, value, _ := strings.Cut(f, "=")
			r.Environment[name] = value
		}
	}
}

// TestMachines has three rebuilders of two operators (a and b of acme, c of umbra)
// agree from different machines, or from one that has several names.
func TestMachines(t *testing.T) {
	const warned = `"a" of acme and "c" of umbra are one machine: both have the boot-id 1…; their operators count as one`
	for _, test := range []struct {
		summary  string
		rule     func(*Policy)
		a, b, c  string
		decision Decision
		reason   string
		warnings string
	}{
		{"two operators, three machines", distinct("operator", 2), "boot-id=1", "boot-id=2", "boot-id=3", Agree, "", ""},
		{"two operators, nobody says where", distinct("operator", 2), "", "", "", Agree, "", ""},
		{"one machine under two operators, by its kernel", distinct("operator", 2), "boot-id=1", "boot-id=2", "boot-id=1", Inconclusive,
			`those who say the same have 1 distinct value of "operator", expected at least 2`, warned},
		{"by its engine, though kernels are not told", distinct("operator", 2), "", "engine-id=7", "engine-id=7", Inconclusive,
			`those who say the same have 1 distinct value of "operator", expected at least 2`,
			`"b" of acme and "c" of umbra are one machine: both have the engine-id 7…; their operators count as one`},
		{"it is told although the rule does not ask", distinct("key", 3), "boot-id=1", "boot-id=2", "boot-id=1", Agree, "", warned},
		{"other facts may be alike", distinct("operator", 2), "kernel=6 boot-id=1", "kernel=6", "kernel=6 boot-id=3", Agree, "", ""},
		{"two machines of three rebuilders", distinct("machine", 2), "boot-id=1", "boot-id=1", "boot-id=3", Agree, "", ""},
		{"one of one operator", distinct("machine", 2), "boot-id=1", "boot-id=1 machine-id=m", "machine-id=m", Inconclusive,
			`those who say the same have 1 distinct value of "machine", expected at least 2`, `"b" of acme and "c" of umbra are one machine: both have the machine-id m…; their operators count as one`},
		{"who does not say where adds none", distinct("machine", 2), "boot-id=1", "", "", Inconclusive,
			`those who say the same have 1 distinct value of "machine", expected at least 2`, ""},
		{"architectures", distinct("architecture", 2), "architecture=amd64", "architecture=arm64", "", Agree, "", ""},
	} {
		p := threeOf(2, test.rule)
		v, agreed := Judge(job, p, []Submission{says(p, "a", "x", at(test.a)), says(p, "b", "x", at(test.b)), says(p, "c", "x", at(test.c))})
		if v.Decision != test.decision || test.reason != "" && strings.Join(v.Reasons, "; ") != test.reason {
			t.Errorf("%s: %s %q, want %s %q", test.summary, v.Decision, v.Reasons, test.decision, test.reason)
		}
		if got := strings.Join(v.Warnings, "; "); got != test.warnings {
			t.Errorf("%s: warnings %q, want %q", test.summary, got, test.warnings)
		}
		if agreed != nil && test.warnings != "" && agreed.IndependentOperators() != 1 {
			t.Errorf("%s: %d independent operators, want 1", test.summary, agreed.IndependentOperators())
		}
	}
}
