package docker

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"quorate.dev/lockfile/digest"
	"quorate.dev/rebuild/host"
)

func TestOptions(t *testing.T) {
	for _, test := range []struct {
		endpoint Endpoint
		want     string // of the error; "" for none
	}{
		{Endpoint{Address: "unix:///run/docker.sock"}, ""},
		{Endpoint{Address: "ssh://build@ams:22"}, ""},
		{Endpoint{Address: "tcp://osl:2375"}, `docker endpoint "tcp://osl:2375": without certificates anybody on the way owns that machine; name the folder of ca.pem, cert.pem and key.pem as tls`},
		{Endpoint{Address: "unix:///x", TLS: "certs"}, `docker endpoint "unix:///x": certificates are for tcp:// only`},
		{Endpoint{Address: "http://osl"}, `docker endpoint "http://osl": expected unix://, tcp:// or ssh://`},
		{Endpoint{Address: "ssh://-oProxyCommand=x"}, `docker endpoint "ssh://-oProxyCommand=x": it names no host`},
		{Endpoint{Address: "ssh://a:b@c"}, `docker endpoint "ssh://a:b@c": ssh takes no password from here; use keys`},
		{Endpoint{Address: "ssh://c/run/docker.sock"}, `docker endpoint "ssh://c/run/docker.sock": a path has no meaning here`},
	} {
		_, err := test.endpoint.options()
		if got := errorText(err); got != test.want {
			t.Errorf("%s: got %q, want %q", test.endpoint, got, test.want)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestSSHArguments(t *testing.T) {
	u, err := url.Parse("ssh://build@ams:2222")
	if err != nil {
		t.Fatal(err)
	}
	args, err := sshArguments(u)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(args, " "), " -T -l build -p 2222 -- ams docker system dial-stdio"; !strings.HasSuffix(got, want) || args[0] != "ssh" {
		t.Errorf("got %q, want ssh …%q", got, want)
	}
}

// TestSSHComplaint lets a command end as ssh does, in its own time.
func TestSSHComplaint(t *testing.T) {
	for _, test := range []struct{ name, script, want string }{
		{"line by line", "exec 1>&-; echo one >&2; sleep 0.2; echo two >&2; exit 255", "ssh to ams: one\ntwo"},
		{"behind its end", "echo one >&2; (exec 1>&-; sleep 60) & exit 255", "ssh to ams: one"},
		{"without a word", "exit 255", "EOF"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := sshDialer([]string{"sh", "-c", test.script, "--", "ams", "docker", "system", "dial-stdio"})(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Read(make([]byte, 1))
			if err == nil || err.Error() != test.want {
				t.Errorf("got %v, want %q", err, test.want)
			}
			began := time.Now()
			if err := c.Close(); err != nil || time.Since(began) > 10*time.Second {
				t.Errorf("closing took %s: %v", time.Since(began), err)
			}
		})
	}
}

func TestContext(t *testing.T) {
	config := t.TempDir()
	write := func(name, text string) string {
		id := digest.Of([]byte(name)).Hex()
		dir := filepath.Join(config, "contexts", "meta", id)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "meta.json"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(config, "contexts", "tls", id, "docker")
	}
	// As docker context create writes it.
	write("plain", `{"Name":"plain","Metadata":{},"Endpoints":{"docker":{"Host":"ssh://build@ams","SkipTLSVerify":false}}}`)
	tls := write("certs", `{"Name":"certs","Endpoints":{"docker":{"Host":"tcp://osl:2376"}}}`)
	if err := os.MkdirAll(tls, 0o755); err != nil {
		t.Fatal(err)
	}
	write("other", `{"Name":"plain"}`)
	write("empty", `{"Name":"empty","Endpoints":{}}`)
	write("blind", `{"Name":"blind","Endpoints":{"docker":{"Host":"tcp://osl:2376","SkipTLSVerify":true}}}`)
	write("torn", `{"Name":`)
	for _, test := range []struct {
		name string
		want Endpoint
		err  string
	}{
		{"plain", Endpoint{Address: "ssh://build@ams"}, ""},
		{"certs", Endpoint{Address: "tcp://osl:2376", TLS: tls}, ""},
		{"other", Endpoint{}, `docker context "other": its file is of "plain"`},
		{"empty", Endpoint{}, `docker context "empty" names no engine`},
		{"blind", Endpoint{}, `docker context "blind" does not check who answers (SkipTLSVerify); that is no way to reach a rebuilder`},
		{"torn", Endpoint{}, `docker context "torn": unexpected EOF`},
		{"none", Endpoint{}, `there is no docker context "none" in "` + config + `"`},
	} {
		got, err := readContext(config, test.name)
		if got != test.want || errorText(err) != test.err {
			t.Errorf("%s: got %v, %q; want %v, %q", test.name, got, errorText(err), test.want, test.err)
		}
	}
}

func TestDead(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	me := host.Owner{Machine: "m", Boot: "b", Space: "pid:[1]", PID: "7", Started: "70"}
	started := func(pid string) string { return map[string]string{"7": "70", "8": "80"}[pid] }
	later, before := "1800000001", "1799999999"
	owner := func(text string) host.Owner {
		o, ok := host.ParseOwner(text)
		if !ok {
			t.Fatalf("%q is no owner", text)
		}
		return o
	}
	for _, test := range []struct {
		summary string
		owner   host.Owner
		until   string
		want    bool
	}{
		{"ourselves", me, later, false},
		{"another living process", owner("m/b/pid:[1]/8/80"), later, false},
		{"a dead process", owner("m/b/pid:[1]/9/90"), later, true},
		{"a dead process whose number another has", owner("m/b/pid:[1]/8/79"), later, true},
		{"before this machine was started anew", owner("m/a/pid:[1]/8/80"), later, true},
		{"in another pid namespace", owner("m/b/pid:[2]/9/90"), later, false},
		{"in an unknown pid namespace", owner("m/b//9/90"), later, false},
		{"another machine", owner("n/a/pid:[1]/9/90"), later, false},
		{"another machine, past its time", owner("n/a/pid:[1]/9/90"), before, true},
	} {
		labels := map[string]string{ownerLabel: test.owner.String(), untilLabel: test.until}
		if got := dead(labels, me, now, started); got != test.want {
			t.Errorf("%s: got %v, want %v", test.summary, got, test.want)
		}
	}
	for _, labels := range []map[string]string{{}, {ownerLabel: "a/b"}, {ownerLabel: "", untilLabel: "soon"}} {
		if dead(labels, me, now, started) {
			t.Errorf("labels %v are no reason to remove anything", labels)
		}
	}
	if dead(map[string]string{ownerLabel: "n/x/pid:[1]/9/90"}, host.Owner{}, now, started) {
		t.Error("who does not know himself removed something")
	}
	if o, ok := host.ParseOwner(me.String()); !ok || o != me {
		t.Errorf("parsed %v, %v", o, ok)
	}
}

func frame(kind byte, text string) []byte {
	head := make([]byte, 8)
	head[0] = kind
	binary.BigEndian.PutUint32(head[4:], uint32(len(text)))
	return append(head, text...)
}

func TestDemultiplex(t *testing.T) {
	for _, test := range []struct {
		summary       string
		stream        []byte
		out, log, err string
	}{
		{"nothing", nil, "", "", ""},
		{"both", bytes.Join([][]byte{frame(1, "a"), frame(2, "b"), frame(1, "c"), frame(1, "")}, nil), "ac", "b", ""},
		{"cut in a head", append(frame(1, "a"), 1, 0), "a", "", ""},
		{"cut in a part", frame(1, "abc")[:10], "ab", "", ""},
		{"a length that nobody has", []byte{1, 0, 0, 0, 255, 255, 255, 255, 'x'}, "x", "", ""},
		{"an unknown kind", frame(7, "a"), "", "", "the engine's stream has a part of kind 7"},
	} {
		var out, log bytes.Buffer
		err := demultiplex(bytes.NewReader(test.stream), &out, &log)
		if out.String() != test.out || log.String() != test.log || errorText(err) != test.err {
			t.Errorf("%s: got %q, %q, %q", test.summary, &out, &log, errorText(err))
		}
	}
}

func FuzzDemultiplex(f *testing.F) {
	f.Add(append(frame(1, "a"), frame(2, "b")...))
	f.Add([]byte{1, 0, 0, 0, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		var out, log bytes.Buffer
		_ = demultiplex(bytes.NewReader(b), &out, &log)
		if out.Len()+log.Len() > len(b) {
			t.Errorf("%d bytes became %d and %d", len(b), out.Len(), log.Len())
		}
	})
}

func TestHow(t *testing.T) {
	for _, test := range []struct {
		end  ending
		want string
	}{
		{ending{}, ""},
		{ending{code: 3}, "it ended with exit status 3"},
		{ending{code: 137}, "it ended with signal: killed"},
		{ending{code: 255}, "it ended with exit status 255"},
		{ending{code: 137, oom: true}, "it ended with signal: killed (its container had used all the memory that it may)"},
	} {
		if got := test.end.how(); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}

func TestFacts(t *testing.T) {
	for answer, want := range map[string]int64{"identity\nfree 12\n": 12, "identity\n": -1, "free -1": -1, "free x": -1, "": -1, "free 9999999999999999999": -1} {
		if got := freeBytes(answer); got != want {
			t.Errorf("%q: got %d, want %d", answer, got, want)
		}
	}
	for _, test := range []struct {
		facts Facts
		want  string
	}{
		{Facts{Free: 5 << 30}, ""},
		{Facts{Free: -1, Skew: -4 * time.Minute}, ""},
		{Facts{Free: 1 << 30}, "its disk has 1.0 GiB left, expected 4"},
		{Facts{Free: 5 << 30, Skew: -24 * time.Hour}, "its clock is off by -24h0m0s"},
	} {
		if got := test.facts.trouble(); got != test.want {
			t.Errorf("%+v: got %q, want %q", test.facts, got, test.want)
		}
	}
}

func archive(t testing.TB, headers ...tar.Header) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Typeflag == tar.TypeReg {
			h.Size = 1
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestUnpack(t *testing.T) {
	dir := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755} }
	file := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644} }
	const garbage = "worker's answer makes no sense: "
	for _, test := range []struct {
		summary string
		tar     []byte
		err     string
	}{
		{"a layout", archive(t, dir("output/"), file("output/index.json"), dir("output/blobs/"), file("output/blobs/x")), ""},
		{"a link", archive(t, dir("output/"), tar.Header{Typeflag: tar.TypeSymlink, Name: "output/l", Linkname: "/etc"}),
			garbage + `its output holds "output/l", which is neither a file nor a folder`},
		{"a way out", archive(t, dir("output/"), file("output/../../x")), garbage + `its output holds "output/../../x"`},
		{"an absolute path", archive(t, dir("output/"), file("/etc/passwd")), garbage + `its output holds "/etc/passwd"`},
		{"a neighbour", archive(t, dir("output/"), file("outputs/x")), garbage + `its output holds "outputs/x"`},
		{"the whole is a file", archive(t, file("output")), garbage + `its output holds "output"`},
		{"not a tar", []byte(strings.Repeat("x", 1024)), garbage + "its output is no archive: archive/tar: invalid tar header"},
		{"a device", archive(t, tar.Header{Typeflag: tar.TypeChar, Name: "output/null"}), garbage + `its output holds "output/null", which is neither a file nor a folder`},
	} {
		to := filepath.Join(t.TempDir(), "image")
		err := unpack(bytes.NewReader(test.tar), "output", to)
		if errorText(err) != test.err {
			t.Errorf("%s: got %v, want %q", test.summary, err, test.err)
		}
		var protocol *host.ProtocolError
		if err != nil && !errors.As(err, &protocol) {
			t.Errorf("%s: got a %T", test.summary, err)
		}
	}
	to := filepath.Join(t.TempDir(), "image")
	if err := unpack(bytes.NewReader(archive(t, file("output/x"), file("output/x"))), "output", to); err == nil {
		t.Error("one file came twice")
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(archive(f, tar.Header{Typeflag: tar.TypeDir, Name: "output/", Mode: 0o755}, tar.Header{Typeflag: tar.TypeReg, Name: "output/x"}))
	f.Add([]byte("x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		_ = unpack(bytes.NewReader(b), "output", filepath.Join(dir, "image"))
		if list, _ := os.ReadDir(dir); len(list) > 1 {
			t.Errorf("beside the folder: %v", list)
		}
	})
}

// TestPack packs what a container's volume begins with.
func TestPack(t *testing.T) {
	var b bytes.Buffer
	if err := pack(&b, nil, nil, 1000); err != nil {
		t.Fatal(err)
	}
	h, err := tar.NewReader(&b).Next()
	if err != nil || h.Name != "job/" || h.Uid != 1000 || h.Typeflag != tar.TypeDir {
		t.Errorf("got %+v, %v", h, err)
	}
}

// TestProfile looks at what the profile allows to everybody.
func TestProfile(t *testing.T) {
	text, err := seccompProfile()
	if err != nil {
		t.Fatal(err)
	}
	var profile struct {
		DefaultAction string
		Syscalls      []struct {
			Names    []string
			Action   string
			Args     []any
			Includes struct{ Caps []string }
		}
	}
	if err := json.Unmarshal([]byte(text), &profile); err != nil {
		t.Fatal(err)
	}
	if profile.DefaultAction != "SCMP_ACT_ERRNO" {
		t.Errorf("what it does not name is %s", profile.DefaultAction)
	}
	free := map[string]bool{}
	for _, s := range profile.Syscalls {
		for _, name := range s.Names {
			if s.Action == "SCMP_ACT_ALLOW" && len(s.Args) == 0 && len(s.Includes.Caps) == 0 {
				free[name] = true
			}
		}
	}
	for _, name := range append([]string{"read", "execve", "seccomp"}, namespaceCalls...) {
		if !free[name] {
			t.Errorf("%s is not allowed", name)
		}
	}
	for _, name := range []string{"bpf", "kexec_load", "init_module", "setns", "open_by_handle_at", "personality", "userfaultfd"} {
		if free[name] {
			t.Errorf("%s is allowed to everybody", name)
		}
	}
}

// TestImage holds the worker's image against itself: one program, one digest.
func TestImage(t *testing.T) {
	if err := checkStatic("/bin/sh"); err == nil || !strings.Contains(err.Error(), "CGO_ENABLED=0") {
		t.Errorf("a program with shared libraries: %v", err)
	}
	if err := checkStatic("/etc/passwd"); err == nil {
		t.Error("/etc/passwd is a program")
	}
	exe := smallestELF(t)
	var ids []string
	for range 2 {
		img, err := makeImage(exe, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, img.ConfigDigest().String()+img.ManifestDigest.String()+img.name)
	}
	if d := cmp.Diff(ids[0], ids[1]); d != "" {
		t.Error(d)
	}
}

// smallestELF is the head of a program without an interpreter.
func smallestELF(t *testing.T) string {
	b := make([]byte, 64)
	copy(b, "\x7fELF\x02\x01\x01")
	binary.LittleEndian.PutUint16(b[16:], 2)  // ET_EXEC
	binary.LittleEndian.PutUint16(b[18:], 62) // EM_X86_64
	binary.LittleEndian.PutUint32(b[20:], 1)
	binary.LittleEndian.PutUint16(b[52:], 64)
	name := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(name, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return name
}
