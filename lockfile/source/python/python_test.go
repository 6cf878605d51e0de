package python

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
	"quorate.dev/lockfile/digest"
	"quorate.dev/lockfile/source"
	"quorate.dev/lockfile/source/sourcetest"
)

// released is what the small index has, by normalised name.
var released = map[string][]string{
	"left":  {"left-1.0.0-py3-none-any.whl", "left-1.0.0.tar.gz"},
	"right": {"right-2.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", "right-2.0-cp312-cp312-manylinux_2_17_x86_64.whl", "right-2.0-cp311-cp311-win_amd64.whl", "right-2.0-cp311-cp311-macosx_11_0_arm64.whl", "right-2.0.tar.gz"},
	"old":   {"old-3.0.tar.gz"},
	"mac":   {"mac-1.0-cp311-cp311-macosx_11_0_arm64.whl"},
}

// index serves released as PEP 503 has it, or as PEP 691.
type index struct {
	*httptest.Server
	spoiled atomic.Bool
}

func newIndex(t *testing.T, asJSON bool) *index {
	i := &index{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /simple/{name}/", func(w http.ResponseWriter, r *http.Request) {
		files, ok := released[r.PathValue("name")]
		switch {
		case !ok:
			http.NotFound(w, r)
		case asJSON:
			doc := map[string]any{"name": r.PathValue("name"), "meta": map[string]string{"api-version": "1.0"}}
			var list []map[string]any
			for _, f := range files {
				list = append(list, map[string]any{"filename": f, "url": "../../files/" + f, "hashes": map[string]string{"sha256": sum(f)}})
			}
			doc["files"] = list
			_ = json.NewEncoder(w).Encode(doc)
		default:
			fmt.Fprintln(w, "<!DOCTYPE html><html><body>")
			for _, f := range files {
				fmt.Fprintf(w, "<a href=\"../../files/%s#sha256=%s\" data-requires-python=\"&gt;=3.8\">%s</a><br/>\n", f, sum(f), f)
			}
		}
	})
	mux.HandleFunc("GET /files/{file}", func(w http.ResponseWriter, r *http.Request) {
		if i.spoiled.Load() {
			fmt.Fprint(w, "import steal")
			return
		}
		w.Write(wheel(r.PathValue("file")))
	})
	i.Server = httptest.NewServer(mux)
	t.Cleanup(i.Close)
	return i
}

// wheel makes a distribution that pip can install, where its name is a wheel's.
func wheel(file string) []byte {
	name, rest, _ := strings.Cut(file, "-")
	version, _, _ := strings.Cut(rest, "-")
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	info := name + "-" + version + ".dist-info/"
	for _, f := range [][2]string{
		{name + ".py", "name = '" + file + "'\n"},
		{info + "METADATA", "Metadata-Version: 2.1\nName: " + name + "\nVersion: " + version + "\n"},
		{info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"},
		{info + "RECORD", name + ".py,,\n" + info + "METADATA,,\n" + info + "WHEEL,,\n" + info + "RECORD,,\n"},
	} {
		e, _ := w.Create(f[0])
		_, _ = e.Write([]byte(f[1]))
	}
	_ = w.Close()
	return b.Bytes()
}

func sum(file string) string { return digest.Of(wheel(file)).Hex() }

// hashes is how pip-compile lists what a version may be.
func hashes(name string) string {
	s := ""
	for _, f := range released[name] {
		s += " \\\n    --hash=sha256:" + sum(f)
	}
	return s
}

const requirementsFile = "web/requirements.txt"

func requirementsText() string {
	return "# made by pip-compile --generate-hashes\n--index-url https://mirror.example/simple\n" +
		"Left==1.0.0" + hashes("left") + "\n    # via\n    #   -r requirements.in\n    #   old\n" +
		"right[extra]==2.0 ; python_version >= '3.8'" + hashes("right") + "\n    # via left\n" +
		"old==3.0" + hashes("old") + "\n    # via\n    #   right\n    #   left\n" +
		"mac==1.0 ; sys_platform == 'darwin'" + hashes("mac") + "\n"
}

func pylockText(base string) string {
	text := "lock-version = \"1.0\"\ncreated-by = \"test\"\n"
	for _, name := range []string{"left", "right"} {
		text += "\n[[packages]]\nname = \"" + name + "\"\nversion = \"" + map[string]string{"left": "1.0.0", "right": "2.0"}[name] + "\"\nwheels = [\n"
		for _, f := range released[name] {
			if strings.HasSuffix(f, ".whl") {
				text += fmt.Sprintf("  {url = \"%s/files/%s\", hashes = {sha256 = \"%s\"}},\n", base, f, sum(f))
			}
		}
		text += "]\n"
	}
	return text + "\n[[packages]]\nname = \"app\"\ndirectory = {path = \".\"}\n"
}

func TestContract(t *testing.T) {
	with := func(text string) map[string]string { return map[string]string{requirementsFile: text} }
	anything := " --hash=sha256:" + sum("left-1.0.0.tar.gz")
	for _, form := range []string{"HTML", "JSON"} {
		t.Run("requirements-"+form, func(t *testing.T) {
			sourcetest.Test(t, func(t *testing.T) *sourcetest.World {
				i := newIndex(t, form == "JSON")
				return &sourcetest.World{
					Kind:    New(i.URL + "/simple/"),
					Request: lockfile.InputRequest{Name: "wheels", Kind: lockfile.KindPython, Ask: lockfile.Facts{"from": "app", "path": requirementsFile}},
					Tree:    with(requirementsText()),
					Spoil:   func() { i.spoiled.Store(true) },
					Down:    i.Close,
					Refused: []sourcetest.Refused{
						{Summary: "no lock", Tree: with(""), Error: `there is no web/requirements.txt in input "app"; pip-tools writes one with: pip-compile --generate-hashes`},
						{Summary: "another tool's lock", Tree: map[string]string{requirementsFile: "", "web/uv.lock": "version = 1\n"}, Error: `there is no web/requirements.txt in input "app", only uv.lock, which is not read; make one of it with: uv export --format requirements-txt --output-file requirements.txt`},
						{Summary: "no hash", Tree: with("left==1.0.0\n"), Error: "web/requirements.txt:1: left has no --hash=sha256:…, so nothing says which bytes are meant"},
						{Summary: "another hash", Tree: with("left==1.0.0 --hash=md5:d41d8cd98f00b204e9800998ecf8427e\n"), Error: "web/requirements.txt:1: left has no --hash=sha256:…"},
						{Summary: "half a hash", Tree: with("left==1.0.0 --hash=sha256:abcd\n"), Error: `web/requirements.txt:1: left has the hash "abcd", which is no sha256`},
						{Summary: "not pinned", Tree: with("\nleft>=1.0.0" + anything), Error: "web/requirements.txt:2: left>=1.0.0 is not pinned to one version, expected left==VERSION"},
						{Summary: "a URL", Tree: with("left @ https://example.org/left.whl" + anything), Error: `web/requirements.txt:1: "left @ https://example.org/left.whl" comes from a URL or a repository`},
						{Summary: "editable", Tree: with("-e .\n"), Error: `web/requirements.txt:1: "." is a folder that is installed in place`},
						{Summary: "garbage", Tree: with("<<<<<<< HEAD\n"), Error: `web/requirements.txt:1: "<<<<<<< HEAD" is no requirement`},
						{Summary: "twice", Tree: with("left==1.0.0" + anything + "\nLEFT==1.0.0" + anything), Error: "web/requirements.txt:2: left stands in web/requirements.txt:1 too"},
						{Summary: "twice at once", Tree: with("left==1.0.0;os_name=='posix'" + anything + "\nleft==1.1" + anything), Error: "web/requirements.txt:2: left stands in web/requirements.txt:1 too"},
						{Summary: "in an included file", Tree: map[string]string{requirementsFile: "\n-r more.txt\n", "web/more.txt": "\n\nghost==1.0" + anything}, Error: "web/more.txt:3: cannot lock ghost 1.0: "},
						{Summary: "an include without a blank", Tree: with("-rmore.txt\n"), Error: `web/requirements.txt:1: it includes "more.txt": `},
						{Summary: "editable without a blank", Tree: with("-e.\n"), Error: `web/requirements.txt:1: "." is a folder that is installed in place`},
						{Summary: "a way out", Tree: with("-r ../../secret.txt\n"), Error: `web/requirements.txt:1: it includes "../../secret.txt", which is outside of the input`},
						{Summary: "an include that is not there", Tree: with("-r more.txt\n"), Error: `web/requirements.txt:1: it includes "more.txt": `},
						{Summary: "deleted from the index", Tree: with("left==1.0.0 --hash=sha256:" + sum("left-0.9.tar.gz")), Error: "web/requirements.txt:1: none of the 1 hashes of left 1.0.0 is a file that the index has"},
						{Summary: "for other systems only", Tree: with("mac==1.0" + hashes("mac")), Error: "web/requirements.txt:1: mac 1.0 has no file for linux/amd64, and no source: it has mac-1.0-cp311-cp311-macosx_11_0_arm64.whl"},
						{Summary: "unknown to the index", Tree: with("ghost==1.0" + anything), Error: "web/requirements.txt:1: cannot lock ghost 1.0: "},
					},
				}
			})
		})
	}
	t.Run("pylock", func(t *testing.T) {
		sourcetest.Test(t, func(t *testing.T) *sourcetest.World {
			i := newIndex(t, true)
			entry := func(more string) map[string]string {
				return map[string]string{"pylock.toml": "lock-version = \"1.0\"\n[[packages]]\n" + more}
			}
			return &sourcetest.World{
				Kind:    New(i.URL + "/simple"),
				Request: lockfile.InputRequest{Name: "wheels", Kind: lockfile.KindPython, Ask: lockfile.Facts{"from": "app", "path": "pylock.toml", "python": "3.11"}},
				Tree:    map[string]string{"pylock.toml": pylockText(i.URL)},
				Spoil:   func() { i.spoiled.Store(true) },
				Down:    i.Close,
				Refused: []sourcetest.Refused{
					{Summary: "not TOML", Tree: map[string]string{"pylock.toml": "a = 1\nb = \n"}, Error: "pylock.toml:2: it is not TOML as PEP 751 has it: "},
					{Summary: "a newer version", Tree: map[string]string{"pylock.toml": "lock-version = \"2.0\"\n"}, Error: `pylock.toml:1: lock-version is "2.0", expected 1.0`},
					{Summary: "version control", Tree: entry("name = \"a\"\nversion = \"1\"\nvcs = {type = \"git\"}\n"), Error: "pylock.toml:2: a comes from version control; bring it under inputs.git"},
					{Summary: "no hash", Tree: entry("name = \"a\"\nversion = \"1\"\nwheels = [{url = \"https://example.org/a-1-py3-none-any.whl\"}]\n"), Error: "pylock.toml:2: a-1-py3-none-any.whl has no sha256"},
					{Summary: "a hostile name", Tree: entry("name = \"a\"\nversion = \"1\"\nwheels = [{url = \"https://example.org/a.whl\", name = \"../a.whl\"}]\n"), Error: `pylock.toml:2: a file of a has the name "../a.whl", which is none`},
					{Summary: "a folder outside", Tree: entry("name = \"a\"\ndirectory = {path = \"../a\"}\n"), Error: `pylock.toml:2: a is the folder "../a", which is outside of the input`},
				},
			}
		})
	})
}

// A lock for every system has several versions of a project, told apart by markers.
func TestMarkers(t *testing.T) {
	text := "left==0.9 ; python_version < '3.8'" + " --hash=sha256:" + sum("left-0.9.tar.gz") + "\nleft==1.0.0 ; python_version >= '3.8'" + hashes("left") + "\n"
	got, err := parseRequirements("requirements.txt", []byte(text), nil)
	if err != nil || len(got) != 2 || got[0].Version != "0.9" || got[1].Version != "1.0.0" {
		t.Errorf("got %+v, %v", got, err)
	}
}

var both = []definition.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}}

func TestChosen(t *testing.T) {
	i := newIndex(t, false)
	for _, test := range []struct {
		summary, python string
		platforms       []definition.Platform
		want            []string
	}{
		{"one platform, any Python", "", both[:1], []string{
			"left/left-1.0.0-py3-none-any.whl  requested", "old/old-3.0.tar.gz  left",
			"right/right-2.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl  left", "right/right-2.0-cp312-cp312-manylinux_2_17_x86_64.whl  left",
		}},
		{"two platforms, the source where there is no wheel", "3.12", both, []string{
			"left/left-1.0.0-py3-none-any.whl  requested", "old/old-3.0.tar.gz  left",
			"right/right-2.0-cp312-cp312-manylinux_2_17_x86_64.whl linux/amd64 left", "right/right-2.0.tar.gz linux/arm64 left",
		}},
	} {
		t.Run(test.summary, func(t *testing.T) {
			answer, err := New(i.URL+"/simple/").Resolve(t.Context(), source.Query{
				Request:   lockfile.InputRequest{Name: "wheels", Kind: lockfile.KindPython, Ask: lockfile.Facts{"from": "app", "path": requirementsFile, "python": test.python}},
				Platforms: test.platforms, Tree: sourcetest.Tree(t, "app", map[string]string{requirementsFile: requirementsText()}), Blobs: sourcetest.NewBlobs(t),
			})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range answer.Pins {
				got = append(got, p.Path+" "+p.Platform+" "+p.By)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
		})
	}
}

func TestWheels(t *testing.T) {
	for _, test := range []struct {
		file, python, arch string
		want               bool
	}{
		{"a-1-py3-none-any.whl", "", "amd64", true},
		{"a-1-py2.py3-none-any.whl", "3.11", "arm64", true},
		{"a-1-py2-none-any.whl", "", "amd64", false},
		{"a-1-1build-py3-none-any.whl", "3.11", "amd64", true},
		{"a-1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", "3.11", "amd64", true},
		{"a-1-cp311-cp311-manylinux_2_17_x86_64.whl", "3.11", "arm64", false},
		{"a-1-cp311-cp311-manylinux_2_17_aarch64.whl", "3.11", "arm64", true},
		{"a-1-cp312-cp312-manylinux_2_17_x86_64.whl", "3.11", "amd64", false},
		{"a-1-cp38-abi3-manylinux_2_17_x86_64.whl", "3.11", "amd64", true},
		{"a-1-cp312-abi3-manylinux_2_17_x86_64.whl", "3.11", "amd64", false},
		{"a-1-cp313-cp313t-manylinux_2_17_x86_64.whl", "3.13", "amd64", false}, // without the interpreter's lock: another build of Python
		{"a-1-cp311-cp311-musllinux_1_2_x86_64.whl", "3.11", "amd64", false},
		{"a-1-cp311-none-linux_x86_64.whl", "3.11", "amd64", true},
		{"a-1-pp310-pypy310_pp73-manylinux_2_17_x86_64.whl", "3.10", "amd64", false},
		{"a-1-cp311-cp311-win_amd64.whl", "3.11", "amd64", false},
		{"a-1.tar.gz", "3.11", "amd64", false},
		{"nonsense.whl", "3.11", "amd64", false},
	} {
		got := len(wheelsFor([]file{{Name: test.file}}, definition.Platform{OS: "linux", Architecture: test.arch}, test.python)) == 1
		if got != test.want {
			t.Errorf("%s for Python %q on %s: got %t", test.file, test.python, test.arch, got)
		}
	}
}

func TestConfig(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pip.conf")
	if err := os.WriteFile(file, []byte("[install]\nindex-url = https://wrong.example\n[global]\n; ours\nindex_url = https://mirror.example/simple\nextra-index-url =\n    https://a.example/simple\n    https://b.example/simple\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	config := map[string]string{}
	readConfig(file, config)
	if config["index-url"] != "https://mirror.example/simple" || strings.Join(strings.Fields(config["extra-index-url"]), " ") != "https://a.example/simple https://b.example/simple" {
		t.Errorf("got %v", config)
	}
	t.Setenv("PIP_CONFIG_FILE", file)
	t.Setenv("PIP_INDEX_URL", "https://env.example/simple")
	t.Setenv("PIP_EXTRA_INDEX_URL", "")
	if got := MachineIndexes(); got[0] != "https://env.example/simple" || !slices.Contains(got, "https://b.example/simple") {
		t.Errorf("got %v", got)
	}
}

var _ source.Kind = (*Source)(nil)

func FuzzRequirements(f *testing.F) {
	f.Add([]byte(requirementsText()))
	f.Add([]byte("-r more.txt\na==1 --hash sha256:00 # x\n\\\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := parseRequirements("r.txt", text, func(name string) ([]byte, error) {
			if name == "more.txt" {
				return []byte("-r r.txt\n-r more.txt\n"), nil
			}
			return nil, fs.ErrNotExist
		})
		if err != nil {
			if e, ok := errors.AsType[*LockError](err); !ok || e.Line < 1 {
				t.Errorf("an error without a place: %v", err)
			}
			return
		}
		for _, r := range all {
			if len(r.Hashes) == 0 || r.Name != normal(r.Name) || strings.ContainsAny(r.Name+r.Version, "/\\\x00") {
				t.Errorf("requirement %+v", r)
			}
		}
	})
}

func FuzzPylock(f *testing.F) {
	f.Add([]byte(pylockText("https://example.org")))
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := parsePylock("pylock.toml", text)
		for _, r := range all {
			for _, x := range r.Files {
				if err == nil && (x.SHA256.IsZero() || x.Name != filepath.Base(x.Name)) {
					t.Errorf("file %+v", x)
				}
			}
		}
	})
}

func FuzzPage(f *testing.F) {
	f.Add([]byte(`<a href="../x-1.tar.gz#sha256=` + strings.Repeat("0", 64) + `">x</a>`))
	f.Add([]byte(`{"files": [{"filename": "x", "url": "y", "hashes": {"sha256": "0"}}]}`))
	base, _ := url.Parse("https://example.org/simple/x/")
	f.Fuzz(func(t *testing.T, text []byte) {
		_ = parsePage(bytes.NewReader(text), base, func(x file) error {
			if _, err := url.Parse(x.URL); err != nil || x.SHA256.IsZero() {
				t.Errorf("file %+v", x)
			}
			return nil
		})
	})
}
