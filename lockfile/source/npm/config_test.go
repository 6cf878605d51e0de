package npm

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/fetch"
	"quorate.dev/lockfile/source/npm/npmtest"
	"quorate.dev/lockfile/source/sourcetest"
)

// configured reads an npmrc.
func configured(t *testing.T, text string, environment ...string) *Config {
	t.Helper()
	file := filepath.Join(t.TempDir(), "npmrc")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return readConfig([]string{filepath.Join(t.TempDir(), "none"), file}, environment)
}

func TestConfig(t *testing.T) {
	c := configured(t, `; ours
# //comment.example/:_authToken=x
registry = "https://mirror.example/"
@corp:registry=https://${CORP}/npm/
//corp.example/npm/:_authToken=${TOKEN} ; of the robot
//quoted.example/:_authToken="a;b#c"
//escaped.example/:_authToken=a\;b\#c\\d
//dollar.example/:_authToken=pa$TOKEN$$
//unset.example/:_authToken=${NOBODY}
//gone.example/:_authToken=${NOBODY?}
//kept.example/:_authToken=\${TOKEN}
//${CORP}/other/:_auth=dTpw
_authToken=nobodys
broken line
[section]
registry=https://wrong.example/
`, "CORP=corp.example", "TOKEN=t0ken", "npm_config_//env.example/:_authToken=e", "NPM_CONFIG_@Two:Registry=https://two.example/", "npm_config_registry=")
	if want := (Registries{"": "https://mirror.example/", "@corp": "https://corp.example/npm/", "@two": "https://two.example/"}); !reflect.DeepEqual(c.Registries, want) {
		t.Errorf("got %v, want %v", c.Registries, want)
	}
	want := map[string]string{
		"//corp.example/npm/:_authToken": "t0ken", "//quoted.example/:_authToken": "a;b#c", "//escaped.example/:_authToken": `a;b#c\d`,
		"//dollar.example/:_authToken": "pa$TOKEN$$", "//unset.example/:_authToken": "${NOBODY}", "//kept.example/:_authToken": "${TOKEN}",
		"//corp.example/other/:_auth": "dTpw", "//env.example/:_authToken": "e",
	}
	if !reflect.DeepEqual(c.settings, want) {
		t.Errorf("got %q\nwant %q", c.settings, want)
	}
	c = configured(t, "registry=https://file.example/\n", "NPM_CONFIG_REGISTRY=https://env.example/")
	if c.Registries[""] != "https://env.example/" {
		t.Errorf("got %v", c.Registries)
	}
	c.Registries[""] = "https://me:secret@env.example/"
	if at, err := c.Default(); err != nil || strings.Contains(at, "secret") {
		t.Errorf("%s, %v", at, err)
	}
}

// What belongs to a host and path goes there, and nowhere else.
func TestAuthorization(t *testing.T) {
	password := base64.StdEncoding.EncodeToString([]byte("s:cret"))
	c := configured(t, `registry=https://npm.example/
@plain:registry=http://plain.example/
//npm.example/:_authToken=top
//npm.example/team/:_authToken=team
//npm.example:8443/:_auth=cG9ydA==
//basic.example/:username=me
//basic.example/:_password=`+password+`
//half.example/:username=me
//odd.example/:username=me
//odd.example/:_password=!
//plain.example/:_authToken=plain
//other.example/:_authToken=other
//no-slash.example:_authToken=n
//127.0.0.1:4873/:_authToken=loop
`)
	for _, test := range []struct{ summary, url, want string }{
		{"the host", "https://npm.example/left/-/left-1.0.0.tgz", "Bearer top"},
		{"a scheme's own port", "https://npm.example:443/left", "Bearer top"},
		{"capitals", "https://NPM.example/left", "Bearer top"},
		{"a longer path first", "https://npm.example/team/left", "Bearer team"},
		{"a path that begins alike", "https://npm.example/teamwork/left", "Bearer top"},
		{"a way round", "https://npm.example/team/../left", ""},
		{"a hidden way round", "https://npm.example/team/%2e%2e/left", ""},
		{"another hidden way round", "https://npm.example/team/..%2fleft", ""},
		{"another port", "https://npm.example:8443/left", "Basic cG9ydA=="},
		{"a port of nobody", "https://npm.example:9443/left", ""},
		{"a host below", "https://evil.npm.example/left", ""},
		{"a host that begins alike", "https://npm.example.evil/left", ""},
		{"another host", "https://evil.example/npm.example/left", ""},
		{"a user and password", "https://basic.example/left", "Basic " + base64.StdEncoding.EncodeToString([]byte("me:s:cret"))},
		{"a user alone", "https://half.example/left", ""},
		{"a password that is not base64", "https://odd.example/left", ""},
		{"no slash in the setting", "https://no-slash.example/left", "Bearer n"},
		{"a registry over http", "http://plain.example/left", "Bearer plain"},
		{"http where the registry is https", "http://npm.example/left", ""},
		{"http where no registry is", "http://other.example/left", ""},
		{"this machine", "http://127.0.0.1:4873/left", "Bearer loop"},
		{"no web", "file:///npm.example/left", ""},
	} {
		u, err := url.Parse(test.url)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.authorization(u); got != test.want {
			t.Errorf("%s: got %q, want %q", test.summary, got, test.want)
		}
	}
}

const secret = "npm_s3cret-of-the-test"

// withToken is a configuration with the secret for one registry.
func withToken(registry string, path string) *Config {
	u, _ := url.Parse(registry)
	return &Config{Registries: Registries{"": registry}, settings: map[string]string{"//" + u.Host + path + ":_authToken": secret}}
}

// lockOf locks what a registry has published.
func lockOf(t *testing.T, s *Source, blobs *sourcetest.Blobs, previous *lockfile.Lock, ask lockfile.Facts, entries ...string) (*lockfile.Lock, error) {
	t.Helper()
	request := lockfile.InputRequest{Name: "packages", Kind: lockfile.KindNpm, Ask: lockfile.Facts{"from": "app", "path": "."}}
	for k, v := range ask {
		request.Ask[k] = v
	}
	w := &sourcetest.World{Kind: s, Request: request, Tree: map[string]string{FileName: lockText(append([]string{root}, entries...)...)}}
	return w.Resolve(t, blobs, previous)
}

// A private registry is asked with its token, to lock and to fetch, and what is
// written down does not have it.
func TestToken(t *testing.T) {
	r := npmtest.Start()
	defer r.Close()
	r.Token = secret
	key := r.NewKey()
	left := r.Publish("@corp/left", "1.0.0", key)
	blobs := sourcetest.NewBlobs(t)
	lock, err := lockOf(t, New(Options{Config: withToken(r.URL, "/")}), blobs, nil, nil, left.LockEntry())
	if err != nil {
		t.Fatal(err)
	}
	if len(lock.Pins) != 1 || !strings.HasPrefix(lock.Pins[0].Signatures, key.ID+"=") {
		t.Errorf("got %+v", lock.Pins)
	}
	if text := string(lockfile.Format(lock)); strings.Contains(text, secret) {
		t.Errorf("the lock has the token:\n%s", text)
	}
	for _, test := range []struct {
		summary string
		config  *Config
		want    string
	}{
		{"no token", &Config{Registries: Registries{"": r.URL}}, "server answered 401 Unauthorized: npm's configuration has no token for it"},
		{"a token of another path", withToken(r.URL, "/elsewhere/"), "server answered 401 Unauthorized: npm's configuration has no token for it"},
		{"another token", &Config{Registries: Registries{"": r.URL}, settings: map[string]string{"//" + strings.TrimPrefix(r.URL, "http://") + "/:_authToken": secret + "-old"}},
			"server answered 401 Unauthorized: it does not take what npm's configuration has for //127.0.0.1:"},
	} {
		r.Requests()
		_, err := lockOf(t, New(Options{Config: test.config}), sourcetest.NewBlobs(t), nil, nil, left.LockEntry())
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: got  %v\nwant %s", test.summary, err, test.want)
		}
		for _, q := range r.Requests() {
			if q.Authorization == "Bearer "+secret {
				t.Errorf("%s: it was sent to %s", test.summary, q.Path)
			}
		}
	}
}

// A registry that redirects to another host, port or path does not pass on what
// belongs to it.
func TestTokenStaysOnRedirect(t *testing.T) {
	var heard []string
	listen := func(w http.ResponseWriter, req *http.Request) {
		heard = append(heard, req.Header.Get("Authorization")+" "+req.Header.Get("Referer")+" "+req.URL.String())
		_, _ = w.Write(npmtest.Pack("left", "1.0.0"))
	}
	other := httptest.NewServer(http.HandlerFunc(listen))
	defer other.Close()
	var to string
	var asked []string
	home := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if strings.HasPrefix(req.URL.Path, "/public/") {
			listen(w, req)
			return
		}
		asked = append(asked, req.Header.Get("Authorization"))
		http.Redirect(w, req, to, http.StatusFound)
	}))
	defer home.Close()
	s := New(Options{Config: withToken(home.URL+"/private/", "/private/")})
	for _, test := range []string{other.URL + "/x.tgz", strings.Replace(other.URL, "127.0.0.1", "localhost", 1) + "/x.tgz", home.URL + "/public/x.tgz", strings.Replace(home.URL, "127.0.0.1", "localhost", 1) + "/public/x.tgz"} {
		to, heard, asked = test, nil, nil
		sources, err := s.Open(lockfile.InputRequest{}, lockfile.Pin{Name: "left", Path: "left/-/left-1.0.0.tgz"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fetch.Read(t.Context(), sources[0], 1<<20, fetch.Options{Tries: 1}); err != nil {
			t.Fatalf("%s: %v", test, err)
		}
		if len(asked) != 1 || asked[0] != "Bearer "+secret {
			t.Errorf("%s: the registry heard %q", test, asked)
		}
		if len(heard) != 1 || strings.Contains(heard[0], secret) || strings.Contains(heard[0], "Bearer") {
			t.Errorf("%s: the other place heard %q", test, heard)
		}
	}
}

// Whatever an npmrc says, no host hears what no setting of it names.
func FuzzConfig(f *testing.F) {
	f.Add("registry=https://a.example/\n//a.example/:_authToken=${A}\n")
	f.Add("//b.example/x/:username=u\n//b.example/x/:_password=cA==\n; c\n\"//c.example/:_auth\" = 'x#y'\n")
	f.Fuzz(func(t *testing.T, text string) {
		c := configured(t, text, "A=value")
		for _, at := range []string{"https://a.example/x/y", "https://b.example/x/y", "http://c.example/x", "https://sub.a.example/"} {
			u, err := url.Parse(at)
			if err != nil {
				t.Fatal(err)
			}
			key, _ := c.credential(u)
			if header := c.authorization(u); header != "" && (key != "//"+u.Host && !strings.HasPrefix(key, "//"+u.Host+"/") || !strings.HasPrefix(u.Path+"/", strings.TrimPrefix(key, "//"+u.Host))) {
				t.Errorf("%s hears what is for %s", at, key)
			}
		}
	})
}
