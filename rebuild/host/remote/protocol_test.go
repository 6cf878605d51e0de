package remote

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/host"
)

func FuzzReadRequest(f *testing.F) {
	f.Add([]byte(`{"nonce":"00112233445566778899aabbccddeeff","attempt":1,"rebuilder":"osl","operator":"umbra","definition":"eA==","lock":"","surroundings":{"environment":{"TZ":"UTC"}}}`))
	f.Add([]byte(`{"locals":{"app":{"tree":"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08","archive":"","size":-1}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		q, err := ReadRequest(bytes.NewReader(data))
		if err != nil {
			return
		}
		// What was taken is taken again as it is written, and says the same.
		b, err := json.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ReadRequest(bytes.NewReader(b))
		if err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		if d := cmp.Diff(q, again); d != "" {
			t.Errorf("read again (-first +second):\n%s", d)
		}
		for name := range q.Surroundings.Environment {
			if name != "TZ" && name != "LC_ALL" {
				t.Errorf("accepted the variable %q", name)
			}
		}
	})
}

func FuzzReadStatus(f *testing.F) {
	d := digest.Of([]byte("x"))
	for _, path := range []string{"image/index.json", "report", "image/../x", "image//x", "/etc/passwd", "log", "lists/" + host.ListName(d), "lists/x.gz"} {
		b, _ := json.Marshal(Status{State: StateEnded, Ending: &Ending{Kind: EndDone, Files: []File{{Path: path, Digest: d, Size: 5}}}})
		f.Add(b)
	}
	f.Add([]byte(`{"state":"queued","position":3}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := readStatus(bytes.NewReader(data))
		if err != nil || s.Ending == nil {
			return
		}
		var total int64
		for _, file := range s.Ending.Files {
			if !filepath.IsLocal(file.Path) || filepath.ToSlash(filepath.Clean(file.Path)) != file.Path {
				t.Errorf("accepted the path %q", file.Path)
			}
			if file.Size < 0 || file.Digest.IsZero() {
				t.Errorf("accepted %+v", file)
			}
			total += file.Size
		}
		if total > MaxImage+2*MaxDocument+MaxLog+host.MaxAllLists {
			t.Errorf("accepted %d bytes", total)
		}
	})
}

func FuzzReadMessage(f *testing.F) {
	f.Add([]byte(`{"seq":1,"event":{"kind":"line","line":"x"}}`))
	f.Add([]byte(`{"stream":"x"}`))
	f.Add([]byte(`{"seq":2,"commit":"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		task := &task{events: func(host.Event) {}, after: 5}
		if m, err := readMessage(data); err == nil && m.Commit == nil {
			_, _ = task.hear(data)
			if task.after < 5 && task.stream == "" {
				t.Errorf("went back to %d", task.after)
			}
		}
	})
}

// Every error of a host goes over the line and comes back as what it was.
func TestEndings(t *testing.T) {
	for _, want := range []error{
		nil, &host.WorkerError{Message: "no such package"}, &host.LostError{How: "killed", Log: "log"}, &host.ProtocolError{Reason: "nonsense"},
		&host.TimeoutError{After: time.Minute},
	} {
		b, err := json.Marshal(EndingOf(want))
		if err != nil {
			t.Fatal(err)
		}
		var e Ending
		if err := json.Unmarshal(b, &e); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, e.err(time.Hour)); d != "" {
			t.Errorf("%T (-want +got):\n%s", want, d)
		}
	}
}

func TestPortable(t *testing.T) {
	given := host.Surroundings{CPUs: []int{1}, Filesystem: "tmpfs", FirstPID: 1977, Uname26: true, ReverseOrder: true, NoASLR: true,
		Environment: map[string]string{"TZ": "America/St_Johns", "LC_ALL": "fr_CH.UTF-8", "LD_PRELOAD": "x"}}
	want := host.Surroundings{FirstPID: 1977, Uname26: true, ReverseOrder: true, NoASLR: true,
		Environment: map[string]string{"TZ": "America/St_Johns", "LC_ALL": "fr_CH.UTF-8"}}
	if d := cmp.Diff(want, portable(given)); d != "" {
		t.Errorf("portable (-want +got):\n%s", d)
	}
	if err := checkSurroundings(portable(given)); err != nil {
		t.Error(err)
	}
	if given.Environment["LD_PRELOAD"] == "" {
		t.Error("the caller's were changed")
	}
	for _, value := range []string{"", "/etc/localtime", "../x", "a/../b", "a b", "a;b", ":x", strings.Repeat("a", 65), "UTC\n"} {
		if checkSurroundings(host.Surroundings{Environment: map[string]string{"TZ": value}}) == nil {
			t.Errorf("accepted the time zone %q", value)
		}
	}
}

func TestCheckEndpoint(t *testing.T) {
	for endpoint, ok := range map[string]bool{
		"https://osl:7443": true, "https://osl": true, "https://[::1]:7443/": true,
		"http://osl:7443": false, "osl:7443": false, "https://": false, "https://a@osl": false, "https://osl/v1": false, "https://osl?x=1": false, "": false,
	} {
		if err := CheckEndpoint(endpoint); (err == nil) != ok {
			t.Errorf("%q: %v", endpoint, err)
		}
	}
}

// Lists have names and limits of their own, and those who do not know of them are not told.
func TestListsOfEnding(t *testing.T) {
	d := digest.Of([]byte("x"))
	list := func(i int, size int64) File {
		return File{Path: "lists/" + host.ListName(digest.Of(fmt.Append(nil, i))), Digest: d, Size: size}
	}
	var many, large []File
	for i := range host.MaxLists + 1 {
		many = append(many, list(i, 1))
	}
	for i := range 5 {
		large = append(large, list(i, host.MaxList))
	}
	for _, test := range []struct {
		summary string
		files   []File
		want    string // a part of the error; "" for none
	}{
		{"as many as there may be", many[1:], ""},
		{"one more", many, "its results have more than 1000 lists"},
		{"as large as it may be", large[:4], ""},
		{"larger", []File{list(1, host.MaxList+1)}, "has 16777217 bytes, more than the 16777216 that are left for it"},
		{"all together too large", large, "has 16777216 bytes, more than the 0 that are left for it"},
		{"another name", []File{{Path: "lists/x.gz", Digest: d}}, `its results hold "lists/x.gz"`},
		{"another folder", []File{{Path: "lists/../" + host.ListName(d), Digest: d}}, `its results hold "lists/../`},
	} {
		e := &Ending{Kind: EndDone, Files: append([]File{{Path: "report", Digest: d}}, test.files...)}
		if err := e.checkFiles(); (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.summary, err, test.want)
		}
		if plain := e.WithoutLists(); test.want == "" && (len(plain.Files) != 1 || len(e.Files) == 1) {
			t.Errorf("%s: without lists %v", test.summary, plain.Files)
		}
	}
	if (*Ending)(nil).WithoutLists() != nil {
		t.Error("no ending has become one")
	}
}
