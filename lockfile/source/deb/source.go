package deb

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"quorate.dev/lockfile"
	"quorate.dev/lockfile/definition"
)

// Options are what a Source works with.
type Options struct {
	Mirrors  []Mirror         // asked in order, see Mirrors
	Snapshot string           // base of the snapshot service, SnapshotService; "" for none
	Cache    string           // folder for verified indexes, made when missing; "" keeps none
	Rules    string           // names the program that chooses: what it answered is kept in Cache and answered again; "" keeps none
	Scratch  string           // folder for temporary ones; "" for the system's
	Apt      Apt              // needed by Resolve only
	Client   *http.Client     // nil for one that follows the proxy variables
	Now      func() time.Time // nil for time.Now
	Events   func(Event)      // called from several goroutines, one at a time; nil for none
}

// Event tells what takes its time.
type Event struct {
	Kind  string // "index": a file of an archive is being read; "apt": apt is being asked; "moved": see Move
	Name  string // archive, set or package
	Text  string // URL, platform, or an explanation
	Total int64  // bytes to come, 0 when unknown
}

// Source is Debian's archives as a source of packages.
type Source struct {
	opts   Options
	events chan struct{} // a lock of one place: events come one at a time
}

// New returns a Source.
func New(o Options) *Source {
	if o.Client == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		// A mirror that is there answers within seconds; each try costs this.
		t.ResponseHeaderTimeout = 30 * time.Second
		o.Client = &http.Client{Transport: t}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Source{opts: o, events: make(chan struct{}, 1)}
}

func (s *Source) event(e Event) {
	if s.opts.Events == nil {
		return
	}
	s.events <- struct{}{}
	defer func() { <-s.events }()
	s.opts.Events(e)
}

// Query asks for the packages of a lock.
type Query struct {
	Suite      string
	Components []string // "main"
	Pockets    []string // "updates", "security"
	SignedBy   [][]byte // OpenPGP key files; nil for the keys shipped
	Platforms  []definition.Platform
	Sets       []lockfile.SetRequest
	Sources    []SourceRequest
	Bases      []Base   // of each Sets[].Base and platform, one
	Previous   Previous // the lock to be replaced; zero for none
	AllowOlder bool     // accept indexes older than Previous's
	Keep       bool     // only packages of Update, and what they need, may change against Previous
	Update     []string // names of packages of Previous
}

// Previous is what a query needs to know of an earlier lock of the same suite.
type Previous struct {
	Archives  []lockfile.Archive
	Platforms []lockfile.Platform
}

// Answer is what a Query gives, ready for the lock: everything is sorted.
type Answer struct {
	Resolver  lockfile.Resolver
	Archives  []lockfile.Archive
	Platforms []lockfile.Platform // in the query's order
	Inputs    []lockfile.Input    // of Query.Sources, in its order
	Pins      []lockfile.Pin      // of Inputs
	Moved     []Move              // only with Query.Keep
}

// Resolve chooses packages. It reads the signed indexes anew each time; only
// when one of them changed, or something else is asked for, are lists of
// packages read and apt asked.
func (s *Source) Resolve(ctx context.Context, q Query) (*Answer, error) {
	work, err := os.MkdirTemp(s.opts.Scratch, "quorate-apt-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	r, err := s.begin(ctx, q, work)
	if err != nil {
		return nil, err
	}
	if r.recall() {
		return r.answer, nil
	}
	if err := r.sources(ctx); err != nil {
		return nil, err
	}
	for _, p := range q.Platforms {
		platform, err := r.platform(ctx, p)
		if err != nil {
			return nil, err
		}
		r.answer.Platforms = append(r.answer.Platforms, platform)
	}
	r.remember()
	s.tidy()
	return r.answer, nil
}

// resolution is one Resolve under way.
type resolution struct {
	*Source
	q        Query
	work     string // folder for what is temporary
	archives []*archive
	native   string
	apt      []lockfile.Package // what apt is unpacked from
	answer   *Answer
}

func (s *Source) begin(ctx context.Context, q Query, work string) (*resolution, error) {
	keys, err := ShippedKeys()
	if q.SignedBy != nil {
		keys, err = ParseKeys(q.SignedBy...)
	}
	if err != nil {
		return nil, err
	}
	own := *s
	if own.opts.Cache == "" {
		own.opts.Cache = filepath.Join(work, "indexes")
	}
	if err := os.MkdirAll(own.opts.Cache, 0o777); err != nil {
		return nil, err
	}
	r := &resolution{Source: &own, q: q, work: work, native: nativeArch(), answer: &Answer{}}
	if r.archives, err = own.archives(ctx, q, keys); err != nil {
		return nil, err
	}
	for _, a := range r.archives {
		r.answer.Archives = append(r.answer.Archives, a.Archive)
	}
	slices.SortFunc(r.answer.Archives, func(a, b lockfile.Archive) int { return strings.Compare(a.Name, b.Name) })
	return r, nil
}

// nativeArch is Debian's name of this machine's architecture.
func nativeArch() string {
	p := definition.Platform{OS: "linux", Architecture: runtime.GOARCH}
	if p.Architecture == "arm" {
		p.Variant = "v7"
	}
	return p.DebianArchitecture()
}

// platform chooses every set of one platform.
func (r *resolution) platform(ctx context.Context, p definition.Platform) (lockfile.Platform, error) {
	none := lockfile.Platform{}
	arch := p.DebianArchitecture()
	if arch == "" {
		return none, fmt.Errorf("cannot use platform %q: Debian has no architecture for it", p.String())
	}
	ix, apt, err := r.prepare(ctx, arch, p.String())
	if err != nil {
		return none, err
	}
	defer os.RemoveAll(apt.dir)
	if r.q.Keep {
		bases, err := r.grounds(ix, p)
		if err != nil {
			return none, err
		}
		pins, moved, err := ix.keep(p, r.previous(p), r.q.Update, bases)
		if err != nil {
			return none, err
		}
		r.answer.Moved = append(r.answer.Moved, moved...)
		if err := apt.prefer(pins); err != nil {
			return none, err
		}
	}
	m := merge{ix: ix, in: map[int32][]lockfile.Member{}, out: lockfile.Platform{Platform: p}}
	answers := map[string][]int32{}
	for _, set := range r.q.Sets {
		if nothing(set) {
			continue
		}
		g, err := r.ground(ix, p, set)
		if err != nil {
			return none, err
		}
		c, err := r.choose(ctx, apt, set, g, answers)
		if err != nil {
			return none, err
		}
		if err := m.add(c); err != nil {
			return none, err
		}
	}
	return m.finish()
}

// ground is what a set is added to on a platform; nil for nothing.
func (r *resolution) ground(ix *Index, p definition.Platform, set lockfile.SetRequest) (*ground, error) {
	if set.Base == "" {
		return nil, nil
	}
	i := slices.IndexFunc(r.q.Bases, func(b Base) bool { return b.Input == set.Base && b.Platform == p })
	if i < 0 {
		return nil, fmt.Errorf("cannot choose packages for %q: nobody says what image %q holds on %s", set.Name, set.Base, p)
	}
	return newGround(ix, &r.q.Bases[i], set.Name)
}

// grounds are those of all sets.
func (r *resolution) grounds(ix *Index, p definition.Platform) ([]*ground, error) {
	var all []*ground
	for _, set := range r.q.Sets {
		g, err := r.ground(ix, p, set)
		if err != nil {
			return nil, err
		}
		if g != nil {
			all = append(all, g)
		}
	}
	return all, nil
}

func (r *resolution) previous(p definition.Platform) []lockfile.Package {
	for _, old := range r.q.Previous.Platforms {
		if old.Platform == p {
			return old.Packages
		}
	}
	return nil
}

// prepare reads a platform's indexes and makes apt's folder for it.
func (r *resolution) prepare(ctx context.Context, arch, platform string) (*Index, *aptRoot, error) {
	foreign, err := foreignArches(r.q.Sets, arch)
	if err != nil {
		return nil, nil, err
	}
	files, err := r.indexFiles(ctx, r.q, r.archives, append([]string{arch}, foreign...))
	if err != nil {
		return nil, nil, err
	}
	ix, err := loadIndex(r.q, arch, foreign, r.archives, files)
	if err != nil {
		return nil, nil, err
	}
	// Names that do not exist are told before anything is unpacked.
	for _, set := range r.q.Sets {
		if set.Base != "" {
			continue // a name may be the base's own
		}
		if _, err := ix.settleAll(set); err != nil {
			return nil, nil, err
		}
	}
	if r.apt == nil {
		if err := r.chooseApt(ctx, ix); err != nil {
			return nil, nil, err
		}
	}
	dir, err := os.MkdirTemp(r.work, "root-")
	if err != nil {
		return nil, nil, err
	}
	apt, err := newAptRoot(dir, ix, files, r.q.Components)
	if err != nil {
		return nil, nil, err
	}
	apt.apt, apt.packages, apt.archives = r.opts.Apt, r.apt, r.answer.Archives
	return ix, apt, nil
}

// chooseApt chooses what apt is unpacked from: always of this machine's own
// architecture, which need not be one that is asked for.
func (r *resolution) chooseApt(ctx context.Context, ix *Index) error {
	if ix.Arch != r.native {
		files, err := r.indexFiles(ctx, r.q, r.archives, []string{r.native})
		if err != nil {
			return err
		}
		if ix, err = loadIndex(r.q, r.native, nil, r.archives, files); err != nil {
			return err
		}
	}
	closure, err := ix.aptClosure()
	if err != nil {
		return err
	}
	for _, i := range closure {
		r.apt = append(r.apt, ix.pin(i))
	}
	apt, _ := ix.newest("apt")
	r.answer.Resolver = lockfile.Resolver{Name: "apt", Version: ix.stanzas[apt].Version}
	return nil
}

// settleAll finds the packages that a set asks for, and those it leaves out.
func (ix *Index) settleAll(set lockfile.SetRequest) ([]definition.Request, error) {
	var out []definition.Request
	for _, p := range set.Packages {
		r, err := ix.settle(p)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	for _, name := range set.Without {
		if slices.ContainsFunc(out, func(r definition.Request) bool { return r.Name == name }) {
			return nil, &RequestError{Request: name, Problem: `"without" leaves the same package out`}
		}
		if len(ix.byName[name]) == 0 {
			return nil, &NotFoundError{Name: name, Suite: ix.Suite, Arch: ix.Arch, Nearest: definition.Nearest(name, ix.names())}
		}
	}
	return out, nil
}

// choose asks apt for one set, unless it was asked the same before, and checks
// the answer.
func (r *resolution) choose(ctx context.Context, apt *aptRoot, set lockfile.SetRequest, g *ground, answers map[string][]int32) (*choice, error) {
	ix := apt.ix
	asked, held := set, []lockfile.Held(nil)
	if g != nil {
		var err error
		if held, asked.Packages, err = g.meets(set); err != nil {
			return nil, err
		}
	}
	requests, err := ix.settleAll(asked)
	if err != nil {
		return nil, err
	}
	if g != nil && len(requests) > 0 {
		if err := g.runs(set); err != nil {
			return nil, err
		}
	}
	var names, essential []string
	if needsEssential(set) {
		essential = ix.essential()
	}
	// apt goes by the order of names where it has a choice. The Essential set
	// comes first, so that it is the same in every set, as in a system that was
	// there before the request.
	for _, e := range essential {
		if !slices.ContainsFunc(requests, func(q definition.Request) bool { return q.Name == e && q.Arch == "" }) {
			names = append(names, e)
		}
	}
	for _, q := range requests {
		names = append(names, aptName(q))
	}
	key := set.Base + "\n" + strings.Join(names, " ")
	answer, ok := answers[key]
	if !ok && len(names) > 0 {
		r.event(Event{Kind: "apt", Name: set.Name, Text: ix.Arch})
		if answer, err = apt.install(ctx, set, g, names); err != nil {
			if g != nil {
				err = g.explained(ix, set, requests, err)
			}
			return nil, err
		}
		answers[key] = answer
	}
	if g != nil {
		if err := g.refusal(set, answer); err != nil {
			return nil, err
		}
	}
	c, err := ix.newChoice(set, requests, essential, g, answer)
	if c != nil {
		c.held = held
	}
	return c, err
}

// newChoice checks an answer: it must hold together, and hold what was asked for.
func (ix *Index) newChoice(set lockfile.SetRequest, requests []definition.Request, essential []string, g *ground, answer []int32) (*choice, error) {
	c := &choice{request: set, chosen: answer, requested: map[int32]bool{}, essential: map[int32]bool{}}
	all := answer
	if g != nil {
		ix, c.base = g.ix, g.is
		all = slices.Concat(answer, g.members)
	}
	w, err := newWorld(ix, all)
	if err != nil {
		return nil, err
	}
	c.world = w
	mark := func(q definition.Request, in map[int32]bool) error {
		arch := cmp.Or(q.Arch, ix.Arch)
		for _, i := range w.byName[q.Name] {
			s := &ix.stanzas[i]
			if (s.Architecture == "all" || s.Architecture == arch) && (q.Version == "" || q.Version == s.Version) {
				in[i] = true
				return nil
			}
		}
		return &AnswerError{Set: set.Name, Problem: fmt.Sprintf("it lacks %q, which was asked for", aptName(q))}
	}
	for _, q := range requests {
		if err := mark(q, c.requested); err != nil {
			return nil, err
		}
	}
	for _, name := range essential {
		if err := mark(definition.Request{Name: name}, c.essential); err != nil {
			return nil, err
		}
	}
	if err := w.check(c.base, nil); err != nil {
		return nil, &AnswerError{Set: set.Name, Problem: err.Error()}
	}
	return c, nil
}

// merge gathers the sets of one platform.
type merge struct {
	ix  *Index
	in  map[int32][]lockfile.Member
	out lockfile.Platform
}

func (m *merge) add(c *choice) error {
	sets, waivers, err := c.sets()
	if err != nil {
		return err
	}
	if image, ok := sets[lockfile.SetImage]; ok {
		if err := c.check(image, waivers); err != nil {
			return &AnswerError{Set: lockfile.SetImage, Problem: err.Error()}
		}
	}
	for name, set := range sets {
		for i, why := range set {
			m.in[i] = append(m.in[i], lockfile.Member{Set: name, By: why})
		}
	}
	m.out.Waived = append(m.out.Waived, waivers...)
	m.out.Held = append(m.out.Held, c.held...)
	return nil
}

func (m *merge) finish() (lockfile.Platform, error) {
	for i, in := range m.in {
		p := m.ix.pin(i)
		p.In = in
		slices.SortFunc(p.In, func(a, b lockfile.Member) int { return strings.Compare(a.Set, b.Set) })
		m.out.Packages = append(m.out.Packages, p)
	}
	slices.SortFunc(m.out.Packages, func(a, b lockfile.Package) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Arch, b.Arch), CompareVersions(a.Version, b.Version))
	})
	slices.SortFunc(m.out.Held, func(a, b lockfile.Held) int {
		return cmp.Or(strings.Compare(a.Set, b.Set), strings.Compare(a.Package, b.Package))
	})
	for k := 1; k < len(m.out.Packages); k++ {
		a, b := m.out.Packages[k-1], m.out.Packages[k]
		if a.Name == b.Name && a.Arch == b.Arch {
			return m.out, &VersionsError{Package: a.Name + ":" + a.Arch,
				Versions: [2]string{a.Version, b.Version}, Sets: [2]string{a.In[0].Set, b.In[0].Set}}
		}
	}
	return m.out, nil
}
