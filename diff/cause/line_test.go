package cause

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func at(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return t
}

var (
	hostA = Facts{Started: at("2026-01-01T08:00:00Z"), Finished: at("2026-01-01T08:10:00Z"), Values: map[string]string{
		"hostname": "amsterdam", "user": "anna", "workdir": "/tmp/build-1x7", "cpus": "4", "kernel": "6.1.0-28-amd64", "first-pid": "100", "utc-offset": "+0000"}}
	hostB = Facts{Started: at("2026-01-02T02:03:04Z"), Finished: at("2026-01-02T02:13:04Z"), Values: map[string]string{
		"hostname": "oslo", "user": "bent", "workdir": "/tmp/build-q9kk2", "cpus": "16", "kernel": "6.8.12-1-pve", "first-pid": "2000", "utc-offset": "+0530"}}
)

func TestLine(t *testing.T) {
	tests := []struct {
		summary    string
		a, b       string
		bare       bool   // nothing is known of the hosts
		want       string // entries, "" for unexplained
		confidence float64
	}{
		{"RFC 3339", "x 2026-01-01T08:01:02Z y", "x 2026-01-02T02:05:06Z y", false, "1-build-time", 1},
		{"nanoseconds with a comma", "2026-01-01T08:01:02,310736455+00:00", "2026-01-02T02:05:06,652231324+00:00", false, "1-build-time", 1},
		{"ctime", "Thu Jan  1 08:01:02 UTC 2026", "Fri Jan  2 02:05:06 UTC 2026", false, "1-build-time", 1},
		{"RFC 822", "Thu, 01 Jan 2026 08:01:02 +0000", "Fri, 02 Jan 2026 02:05:06 +0000", false, "1-build-time", 1},
		{"C's date and time", "Jan  1 2026 08:01:02", "Jan  2 2026 02:05:06", false, "1-build-time", 1},
		{"seconds", "t=1767254462;", "t=1767319506;", false, "1-build-time", 1},
		{"milliseconds", "t=1767254462123;", "t=1767319506456;", false, "1-build-time", 1},
		{"compact", "v20260101080102", "v20260102020506", true, "", 0}, // no word boundary: could be any number
		{"compact with a point", "v.20260101080102", "v.20260102020506", true, "1-build-time", 1},
		{"date far from the builds", "since 2019-05-06", "since 2021-07-08", false, "1-build-time", 0.7},
		{"seconds without a record", "t=1767254462", "t=1767319506", true, "1-build-time", 0.8},
		{"zones of the hosts", "2026-01-01 00:00:00", "2026-01-01 05:30:00", false, "17-timezone", 1},
		{"zones unknown", "2026-01-01 00:12:34", "2026-01-01 05:42:34", true, "17-timezone", 0.8},
		{"one moment in two zones", "2026-01-01 00:12:34 +0000", "2026-01-01 05:42:34 +0530", true, "17-timezone", 1},
		{"host name", "built on amsterdam.", "built on oslo.", false, "18-host-facts", 1},
		{"host name in a word", "amsterdamned", "oslocked", false, "", 0},
		{"user and host and time", "anna@amsterdam 2026-01-01", "bent@oslo 2026-01-02", false, "18-host-facts 18-host-facts 1-build-time", 1},
		{"upper case", "#define ON_AMSTERDAM", "#define ON_OSLO", false, "18-host-facts", 1},
		{"base64", "YW1zdGVyZGFt", "b3Nsbw", false, "18-host-facts", 1},
		{"named without a record", "hostname: red1", "hostname: blue2", true, "18-host-facts", 0.7},
		{"a name with signs in it", "hostname = fv-az1042-811", "hostname = ip-10-0-3-17", true, "18-host-facts", 0.7},
		{"who compiled", `#define COMPILE_BY "nobody-ci"`, `#define COMPILE_BY "jenkins"`, true, "18-host-facts", 0.7},
		{"a kernel of another distribution", "kernel release: 6.12.5-200.fc41.x86_64", "kernel release: 6.1.0-28-amd64", true, "19-kernel", 0.7},
		{"a made-up folder and one that is not", "/tmp/build-icotqy", "/build/reproducible-path/x-1.0", true, "3-build-path", 0.95},
		{"two made-up names", "/tmp/build-icotqy", "/tmp/build-qqwert", true, "22-random", 1},
		{"build folder", `"/tmp/build-1x7/src/a.c"`, `"/tmp/build-q9kk2/src/a.c"`, false, "3-build-path", 1},
		{"build folder without a record", "/tmp/abc/src/a.c", "/tmp/defg/src/a.c", true, "3-build-path", 0.95},
		{"kernel", "Linux 6.1.0-28-amd64 x", "Linux 6.8.12-1-pve x", false, "19-kernel", 1},
		{"kernel without a record", "Linux 6.1.0-28-amd64 x", "Linux 6.8.12-1-pve x", true, "19-kernel", 0.7},
		{"jobs", "make -j4", "make -j16", false, "20-cpu-count", 1},
		{"rounding", "sum: 1.644433941827396 ", "sum: 1.644433941827393 ", true, "37-measured", 0.9},
		{"rounding away", "x = 0.30000000000000004", "x = 0.3", true, "37-measured", 0.9},
		{"numbers that are no roundings of one", "x = 1.644433941827396", "x = 1.744433941827396", true, "", 0},
		{"versions are no roundings", "version 1.2.3", "version 1.2.4", true, "", 0},
		{"a number like the CPUs", "4", "16", false, "20-cpu-count", 0.9},
		{"a number like the CPUs of nobody", "5", "17", false, "", 0},
		{"any number", "version 4", "version 5", true, "", 0},
		{"UUID", "id 24a2466b-1a7c-4c67-b07c-d6e0af0fd10f", "id a73d160b-eb30-45ec-a7d6-3b530c7a4b50", true, "22-random", 1},
		{"temporary file", "cc1 /tmp/ccAbC123.s", "cc1 /tmp/ccXyZ789.s", true, "22-random", 1},
		{"hex", "8978a61781b5ed5f", "eae2f8a4608bf7ad", true, "22-random", 0.8},
		{"as long as a digest", "8978a61781b5ed5ff1eb6962e39d4a50", "eae2f8a4608bf7ad91ed727668852af2", true, "22-random", 0.6},
		{"Rust's symbols", "_ZN3lib3two17h0123456789abcdefE", "_ZN3lib3two17hfedcba9876543210E", true, "39-go-rust", 0.9},
		{"words", "alpha", "gamma", true, "", 0},
		{"process number", "pid 123", "pid 2222", false, "23-pid", 1},
		{"address", "at 0x7fe84cb80980", "at 0x7f321cf70980", true, "24-address", 1},
		{"address of another place", "at 0x7fe84cb80980", "at 0x7f321cf70123", true, "24-address", 0.8},
		{"words in another order", "red green blue black", "blue red black green", true, "7-hash-order", 1},
		{"processors", "-march=nehalem -O2", "-march=haswell -O2", true, "21-cpu-features", 1},
		{"flags", "GNU C17 12.2.0 -O1 -g", "GNU C17 12.2.0 -O2 -g", true, "38-toolchain", 1},
		{"compilers", "GCC: (Debian 12.2.0-14) 12.2.0", "GCC: (Debian 13.1.0-6) 13.1.0", true, "38-toolchain 38-toolchain", 0.9},
		{"something else beside a date", "2026-01-01 alpha", "2026-01-02 gamma", false, "", 0},
	}
	for _, test := range tests {
		t.Run(test.summary, func(t *testing.T) {
			p := newPair(hostA, hostB)
			if test.bare {
				p = newPair(Facts{}, Facts{})
			}
			list, ok := p.line(test.a, test.b)
			var got []string
			least := 1.0
			for _, c := range list {
				got = append(got, c.entry)
				least = min(least, c.confidence)
				if c.confidence < 1 && c.why == "" {
					t.Errorf("%q is likely and does not say why", c.entry)
				}
			}
			if ok != (test.want != "") || strings.Join(got, " ") != test.want {
				t.Fatalf("got %q, expected %q", got, test.want)
			}
			if ok && least != test.confidence {
				t.Errorf("confidence %v, expected %v", least, test.confidence)
			}
		})
	}
}

func TestWhole(t *testing.T) {
	tests := []struct {
		summary, a, b, want string
	}{
		{"names of files", "b/x.c\na/y.c\nc/z.c\n", "c/z.c\nb/x.c\na/y.c\n", "6-file-order"},
		{"sums of files", strings.Repeat("a", 32) + "  x.c\n" + strings.Repeat("b", 32) + "  y.c\n", strings.Repeat("b", 32) + "  y.c\n" + strings.Repeat("a", 32) + "  x.c\n", "6-file-order"},
		{"properties", "b=1\na=2\n", "a=2\nb=1\n", "7-hash-order"},
		{"JSON", `{"a": 1, "b": {"c": [1, 2]}}`, `{"b": {"c": [1, 2]}, "a": 1}`, "7-hash-order"},
		{"JSON whose list is in another order", `[1, 2]`, `[2, 1]`, ""},
		{"by a locale", "Makefile\nREADME\nalpha.c\n", "alpha.c\nMakefile\nREADME\n", "16-locale"},
		{"other lines", "a\nb\n", "a\nc\n", ""},
		{"keys", "-----BEGIN PRIVATE KEY-----\nx\n", "-----BEGIN PRIVATE KEY-----\ny\n", "22-random"},
	}
	for _, test := range tests {
		t.Run(test.summary, func(t *testing.T) {
			list, _ := newPair(Facts{}, Facts{}).whole("x", []byte(test.a), []byte(test.b))
			got := ""
			if len(list) > 0 {
				got = list[0].entry
			}
			if got != test.want {
				t.Errorf("got %q, expected %q", got, test.want)
			}
		})
	}
}

// Words that nothing is known of are never explained, whatever stands around them.
func TestLineNeverExplainsWords(t *testing.T) {
	words := rapid.SampledFrom([]string{"alpha", "beta", "gamma", "delta", "the", "of", "x", "y", ", ", " ", "/", "= "})
	rapid.Check(t, func(t *rapid.T) {
		head := strings.Join(rapid.SliceOfN(words, 0, 6).Draw(t, "head"), " ")
		x, y := rapid.StringMatching(`[g-z]{3,9}`).Draw(t, "x"), rapid.StringMatching(`[g-z]{3,9}`).Draw(t, "y")
		if x == y || hostWords.MatchString(head+" ") || x == "anna" || y == "bent" {
			return
		}
		if list, ok := newPair(hostA, hostB).line(head+" "+x, head+" "+y); ok {
			t.Fatalf("%q and %q are explained: %+v", head+" "+x, head+" "+y, list)
		}
	})
}

func FuzzLine(f *testing.F) {
	f.Add("x 2026-01-01T08:01:02Z y", "x 2026-01-02T02:05:06Z y")
	f.Add("anna@amsterdam /tmp/build-1x7", "bent@oslo /tmp/build-q9kk2")
	f.Add("\x00\xff 0x7fe84cb80980", "\x00\xff 0x7f321cf70980")
	f.Fuzz(func(t *testing.T, a, b string) {
		p := newPair(hostA, hostB)
		list, ok := p.line(a, b)
		if a == b && ok {
			t.Fatalf("equal lines differ by %+v", list)
		}
		for _, c := range list {
			if c.effect == "" && entryOf(c.entry) == nil {
				t.Fatalf("no entry %q", c.entry)
			}
		}
		p.whole("x", []byte(a), []byte(b))
		p.held = heldPaths{"": true}
		p.whole("x", []byte(a), []byte(b))
	})
}

func FuzzMarshal(f *testing.F) {
	f.Add([]byte("c\x00\x00\x00\x00"), 3495)
	f.Add([]byte("\xa9\x02\xe9\x01\x00\x00\x00r\x00\x00\x00\x00"), 3495)
	f.Add([]byte("{N0"), 3439)
	f.Fuzz(func(t *testing.T, b []byte, magic int) {
		if s, err := plainMarshal(b, magic); err == nil && s == "" {
			t.Fatal("no error and no form")
		}
	})
}

func TestCatalogue(t *testing.T) {
	seen := map[string]bool{}
	for _, e := range catalogue {
		if seen[e.ID] || e.Title == "" || e.Kind == "" || e.Mend == nil {
			t.Errorf("entry %q is there twice or lacks something", e.ID)
		}
		seen[e.ID] = true
		k := &Cause{ID: e.ID}
		e.Mend(&mender{}, k)
		if len(k.Mend.Lines) == 0 {
			t.Errorf("%q has no mend", e.ID)
		}
	}
	for _, s := range searchable {
		if !seen[s.entry] {
			t.Errorf("no entry %q", s.entry)
		}
	}
	for _, s := range shapes {
		if !seen[s.entry] {
			t.Errorf("no entry %q", s.entry)
		}
	}
}
