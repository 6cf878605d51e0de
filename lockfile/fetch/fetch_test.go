package fetch_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"quorate.dev/lockfile/digest"
	"quorate.dev/lockfile/fetch"
	"quorate.dev/lockfile/fetch/fetchtest"
)

type (
	answer = fetchtest.Answer
	source = fetchtest.Source
)

const text = "the bytes of a package"

var (
	want     = digest.Of([]byte(text))
	errReset = errors.New("connection reset")
	quick    = fetch.Options{Pause: time.Microsecond, Stall: 50 * time.Millisecond}
)

func item(sources ...fetch.Source) fetch.Item {
	return fetch.Item{Name: "pkg 1.0 amd64", Size: int64(len(text)), Digest: want, Sources: sources}
}

type permanent struct{ error }

func (permanent) Permanent() bool { return true }

func TestSources(t *testing.T) {
	wrong := strings.Replace(text, "bytes", "bits!", 1)
	tests := []struct {
		summary string
		partial string
		sources []*source
		offsets [][]int64 // each source was asked for
		tried   []string  // each source's error; none means success
	}{
		{"at once", "", []*source{{Answers: []answer{{Text: text}}}}, [][]int64{{0}}, nil},
		{"resumed after a break", "", []*source{{Answers: []answer{{Text: text, Cut: 5, Break: errReset}, {Text: text, Cut: 3}, {Text: text}}}}, [][]int64{{0, 5, 8}}, nil},
		{"resumed from an earlier run", text[:7], []*source{{Answers: []answer{{Text: text}}}}, [][]int64{{7}}, nil},
		{"an earlier run did all but finish", text, []*source{{Answers: []answer{{Text: text}}}}, [][]int64{nil}, nil},
		{"an earlier run left too much", text + text, []*source{{Answers: []answer{{Text: text}}}}, [][]int64{{0}}, nil},
		{"an earlier run left other bytes", "xxx", []*source{{Answers: []answer{{Text: text}}}}, [][]int64{{3, 0}}, nil},
		{"an earlier run left all of it, damaged", wrong, []*source{{Answers: []answer{{Text: text}}}}, [][]int64{{0}}, nil},
		{"range ignored", text[:7], []*source{{Answers: []answer{{Text: text, Whole: true}}}}, [][]int64{{7}}, nil},
		{"range ignored after a break", "", []*source{{Answers: []answer{{Text: text, Cut: 5}, {Text: text, Whole: true}}}}, [][]int64{{0, 5}}, nil},
		{"wrong range", text[:7], []*source{{Answers: []answer{{Text: text, Skew: 1}, {Text: text}}}}, [][]int64{{7, 7}}, nil},
		{"breaks behind the last byte", "", []*source{{Answers: []answer{{Text: text, Cut: len(text), Break: errReset}}}}, [][]int64{{0}}, nil},
		{"failures that pass", "", []*source{{Answers: []answer{{Err: errReset}, {Err: errReset}, {Err: errReset}, {Text: text}}}}, [][]int64{{0, 0, 0, 0}}, nil},
		{"failures that do not pass", "", []*source{{Answers: []answer{{Err: errReset}}}}, [][]int64{{0, 0, 0, 0}}, []string{"connection reset"}},
		{"not there is not asked twice", "", []*source{{Answers: []answer{{Err: fs.ErrNotExist}}}}, [][]int64{{0}}, []string{"file does not exist"}},
		{"permanent is not asked twice", "", []*source{{Answers: []answer{{Err: permanent{errors.New("410 Gone")}}}}}, [][]int64{{0}}, []string{"410 Gone"}},
		{"next source", "", []*source{{Answers: []answer{{Err: fs.ErrNotExist}}}, {Answers: []answer{{Text: text}}}}, [][]int64{{0}, {0}}, nil},
		{"next source goes on", "", []*source{{Answers: []answer{{Text: text, Cut: 4}, {Err: fs.ErrNotExist}}}, {Answers: []answer{{Text: text}}}}, [][]int64{{0, 4}, {4}}, nil},
		{"next source mends a wrong beginning", "", []*source{{Answers: []answer{{Text: wrong, Cut: 6}, {Err: fs.ErrNotExist}}}, {Answers: []answer{{Text: text}}}}, [][]int64{{0, 6}, {6, 0}}, nil},
		{"wrong bytes", "", []*source{{Answers: []answer{{Text: wrong}}}, {Answers: []answer{{Text: text}}}}, [][]int64{{0}, {0}}, nil},
		{"changed after a break", "", []*source{{Answers: []answer{{Text: wrong, Cut: 6}, {Text: text}}}}, [][]int64{{0, 6, 0}}, nil},
		{"changes with every break", "", []*source{{Answers: []answer{{Text: wrong, Cut: 6}, {Text: text}, {Text: wrong, Cut: 6}, {Text: text}}}}, [][]int64{{0, 6, 0, 6}},
			[]string{"bytes have digest " + digest.Of([]byte(wrong[:6]+text[6:])).String() + ", expected " + want.String()}},
		{"too many bytes", "", []*source{{Answers: []answer{{Text: text + "!"}}}}, [][]int64{{0}}, []string{"more than the expected 22 bytes"}},
		{"always short", "", []*source{{Answers: []answer{{Text: text[:9]}}}}, [][]int64{{0, 9, 9, 9}}, []string{"ended after 9 bytes, expected 22"}},
		{"stalls, then goes on", "", []*source{{Answers: []answer{{Text: text, Cut: 5, Stall: true}, {Text: text}}}}, [][]int64{{0, 5}}, nil},
		{"hangs before it begins", "", []*source{{Answers: []answer{{Gate: make(chan struct{})}, {Text: text}}}}, [][]int64{{0, 0}}, nil},
		{"all wrong", "", []*source{{Answers: []answer{{Text: wrong}}}, {Answers: []answer{{Err: fs.ErrNotExist}}}}, [][]int64{{0}, {0}},
			[]string{"bytes have digest " + digest.Of([]byte(wrong)).String() + ", expected " + want.String(), "file does not exist"}},
		{"no source", "", nil, nil, []string{}},
	}
	for _, test := range tests {
		t.Run(test.summary, func(t *testing.T) {
			s := fetchtest.New()
			if test.partial != "" {
				s.Begin(want, test.partial)
			}
			var sources []fetch.Source
			for i, src := range test.sources {
				src.Name = fmt.Sprint("source", i)
				sources = append(sources, src)
			}
			err := fetch.Fetch(t.Context(), []fetch.Item{item(sources...)}, s, quick)
			for i, src := range test.sources {
				if !slices.Equal(src.Offsets, test.offsets[i]) {
					t.Errorf("source %d was asked for %v, expected %v", i, src.Offsets, test.offsets[i])
				}
			}
			if test.tried == nil {
				if err != nil || !s.Has(want, int64(len(text))) {
					t.Errorf("got %v", err)
				}
				return
			}
			var u *fetch.UnavailableError
			if !errors.As(err, &u) || s.Has(want, -1) {
				t.Fatalf("got %v", err)
			}
			got := []string{}
			for _, a := range u.Tried {
				got = append(got, a.Err.Error())
			}
			if !slices.Equal(got, test.tried) {
				t.Errorf("got errors %q\nexpected %q", got, test.tried)
			}
		})
	}
}

func TestUnavailableErrorText(t *testing.T) {
	gone := &source{Name: "https://deb.example/pool/n.deb", Answers: []answer{{Err: permanent{errors.New("server answered 404 Not Found")}}}}
	down := &source{Name: "https://snapshot.example/n.deb", Answers: []answer{{Err: errReset}}}
	none := item()
	none.Name, none.Digest = "other 2", digest.Of(nil)
	err := fetch.Fetch(t.Context(), []fetch.Item{item(gone, down), none}, fetchtest.New(), quick)
	want := `cannot fetch "pkg 1.0 amd64": no source gave its bytes (` + want.String() + `, 22 bytes)
  https://deb.example/pool/n.deb: server answered 404 Not Found
  https://snapshot.example/n.deb: connection reset
  ways out: "quorate lock" chooses current versions; "--mirror" names another place, such as a snapshot of the archive at the lock's date
cannot fetch "other 2": no source gave its bytes (` + digest.Of(nil).String() + `, 22 bytes)
  no source is known for it
  ways out: "quorate lock" chooses current versions; "--mirror" names another place, such as a snapshot of the archive at the lock's date`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nexpected\n%s", err, want)
	}
	if !errors.Is(err, errReset) {
		t.Error("the causes are not wrapped")
	}
}

func numbered(n int, src func(i int, text string) fetch.Source) []fetch.Item {
	var items []fetch.Item
	for i := range n {
		b := fmt.Sprintf("bytes of %d", i)
		items = append(items, fetch.Item{Name: fmt.Sprint("item", i), Size: int64(len(b)), Digest: digest.Of([]byte(b)), Sources: []fetch.Source{src(i, b)}})
	}
	return items
}

// All failures are told together, bounded, and do not keep the rest from coming.
func TestManyFail(t *testing.T) {
	items := numbered(30, func(i int, b string) fetch.Source {
		if i%2 == 0 {
			return &source{Name: "s", Answers: []answer{{Text: b}}}
		}
		return &source{Name: "s", Answers: []answer{{Err: fs.ErrNotExist}}}
	})
	s := fetchtest.New()
	err := fetch.Fetch(t.Context(), items, s, quick)
	var all *fetch.Errors
	if !errors.As(err, &all) || len(all.List) != 15 {
		t.Fatalf("got %v", err)
	}
	if n := strings.Count(err.Error(), "cannot fetch"); n != 10 || !strings.HasSuffix(err.Error(), "\nand 5 more inputs cannot be fetched") || !strings.HasPrefix(err.Error(), `cannot fetch "item1"`) {
		t.Errorf("shows %d: %v", n, err)
	}
	for i, it := range items {
		if s.Has(it.Digest, it.Size) != (i%2 == 0) {
			t.Errorf("%s is there: %v", it.Name, i%2 != 0)
		}
	}
}

// A place from which nothing comes is not asked for thousands of things; what is
// not there is told of each.
func TestVain(t *testing.T) {
	one := quick
	one.Parallel, one.Stall = 1, time.Minute // a busy machine may rest longer than quick's
	for _, test := range []struct {
		summary      string
		answer       func(i int, b string) answer
		told, opened int
	}{
		{"nothing comes", func(int, string) answer { return answer{Err: errReset} }, 24, 24 * 4},
		{"other bytes come", func(int, string) answer { return answer{Text: strings.Repeat("x", 50)} }, 100, 100},
		{"nothing is there", func(int, string) answer { return answer{Err: fs.ErrNotExist} }, 100, 100},
		{"one of twenty comes", func(i int, b string) answer {
			if i%20 == 0 {
				return answer{Text: b}
			}
			return answer{Err: errReset}
		}, 95, 95*4 + 5},
	} {
		opened := 0
		items := numbered(100, func(i int, b string) fetch.Source {
			a := test.answer(i, b)
			a.Before = func() { opened++ }
			return &source{Name: "s", Answers: []answer{a}}
		})
		err := fetch.Fetch(t.Context(), items, fetchtest.New(), one)
		var all *fetch.Errors
		if !errors.As(err, &all) {
			t.Fatalf("%s: %v", test.summary, err)
		}
		told := 0
		for i, err := range all.List {
			var u *fetch.UnavailableError
			if errors.As(err, &u) {
				if told++; told != i+1 {
					t.Errorf("%s: a reason comes behind what was not asked for", test.summary)
				}
			}
		}
		if told != test.told || opened != test.opened {
			t.Errorf("%s: %d told, %d asked for, expected %d and %d", test.summary, told, opened, test.told, test.opened)
		}
		if last := all.List[len(all.List)-1].Error(); told < 95 && !strings.HasSuffix(last, `" was not asked for: none of the 24 before it could be had`) {
			t.Errorf("%s: %s", test.summary, last)
		}
	}
}

func TestOffline(t *testing.T) {
	local := &source{Name: "file", Near: true, Answers: []answer{{Text: text}}}
	remote := &source{Name: "net", Answers: []answer{{Text: text}}}
	o := quick
	o.Offline = true
	if err := fetch.Fetch(t.Context(), []fetch.Item{item(remote)}, fetchtest.New(text), o); err != nil {
		t.Errorf("with all bytes there: %v", err)
	}
	if err := fetch.Fetch(t.Context(), []fetch.Item{item(remote, local)}, fetchtest.New(), o); err != nil {
		t.Errorf("with a local source: %v", err)
	}
	err := fetch.Fetch(t.Context(), numbered(12, func(int, string) fetch.Source { return remote }), fetchtest.New("bytes of 3"), o)
	var off *fetch.OfflineError
	if !errors.As(err, &off) || len(off.Missing) != 11 {
		t.Fatalf("got %v", err)
	}
	if want := `cannot fetch offline: 11 of the locked inputs are not in the store: "item0", "item1", "item2", "item4", "item5", "item6", "item7", "item8", "item9", "item10" and 1 more`; err.Error() != want {
		t.Errorf("got %v", err)
	}
	if len(remote.Offsets) > 0 {
		t.Error("the network was asked")
	}
}

func TestEqualDigestsOnce(t *testing.T) {
	src := &source{Name: "s", Answers: []answer{{Text: text}}}
	if err := fetch.Fetch(t.Context(), []fetch.Item{item(src), item(src)}, fetchtest.New(), quick); err != nil || len(src.Offsets) != 1 {
		t.Errorf("asked %d times, %v", len(src.Offsets), err)
	}
	other := item(src)
	other.Name, other.Size = "other", 5
	err := fetch.Fetch(t.Context(), []fetch.Item{item(src), other}, fetchtest.New(), quick)
	if want := `cannot fetch "pkg 1.0 amd64" and "other": both have digest ` + want.String() + `, but sizes 22 and 5`; err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
	if err := fetch.Fetch(t.Context(), []fetch.Item{{Name: "x"}}, fetchtest.New(), quick); err == nil {
		t.Error("took an item without digest")
	}
}

func TestRefetch(t *testing.T) {
	s := fetchtest.New(text)
	src := &source{Name: "s", Answers: []answer{{Text: text}}}
	if err := fetch.Fetch(t.Context(), []fetch.Item{item(src)}, s, quick); err != nil || len(src.Offsets) != 0 {
		t.Errorf("fetched what is there: %v", err)
	}
	if err := fetch.Refetch(t.Context(), []fetch.Item{item(src)}, s, quick); err != nil || len(src.Offsets) != 1 || !s.Has(want, -1) {
		t.Errorf("not fetched again: %v", err)
	}
}

func TestDiskFullStopsAll(t *testing.T) {
	s := fetchtest.New()
	s.WriteErr = func(int64) error { return syscall.ENOSPC }
	var opened atomic.Int32
	items := numbered(200, func(_ int, b string) fetch.Source {
		return &source{Name: "s", Answers: []answer{{Text: b, Before: func() { opened.Add(1) }}}}
	})
	err := fetch.Fetch(t.Context(), items, s, quick)
	if !errors.Is(err, syscall.ENOSPC) || strings.Count(err.Error(), "cannot fetch") != 1 {
		t.Errorf("got %v", err)
	}
	if opened.Load() > 20 {
		t.Errorf("%d sources were opened after the disk was full", opened.Load())
	}
}

func TestCancelKeepsWhatCame(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := fetchtest.New()
	src := &source{Name: "s", Answers: []answer{{Text: text, Cut: 5, Stall: true}}}
	o := quick
	o.Stall = time.Hour
	time.AfterFunc(20*time.Millisecond, cancel)
	err := fetch.Fetch(ctx, []fetch.Item{item(src)}, s, o)
	if !errors.Is(err, context.Canceled) || err.Error() != "fetching was interrupted: context canceled" {
		t.Errorf("got %v", err)
	}
	if got := s.Left(want); got != text[:5] {
		t.Errorf("kept %q", got)
	}
}

func TestCancelDuringPause(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	o := fetch.Options{Pause: time.Hour, Events: func(e fetch.Event) {
		if e.Kind == fetch.Retry {
			cancel()
		}
	}}
	err := fetch.Fetch(ctx, []fetch.Item{item(&source{Name: "s", Answers: []answer{{Err: errReset}}})}, fetchtest.New(), o)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestPerHost(t *testing.T) {
	var now, most [2]atomic.Int32
	items := numbered(60, func(i int, b string) fetch.Source {
		host := i % 2
		return &source{Name: "s", At: fmt.Sprint("host", host), Answers: []answer{{Text: b, Before: func() {
			n := now[host].Add(1)
			for m := most[host].Load(); n > m && !most[host].CompareAndSwap(m, n); m = most[host].Load() {
			}
			time.Sleep(time.Millisecond)
			now[host].Add(-1)
		}}}}
	})
	o := quick
	o.PerHost = 2
	if err := fetch.Fetch(t.Context(), items, fetchtest.New(), o); err != nil {
		t.Fatal(err)
	}
	for i := range most {
		if n := most[i].Load(); n != 2 {
			t.Errorf("host%d had %d requests at once, expected 2", i, n)
		}
	}
}

// A line that breaks every few megabytes brings a file that takes more than
// four attempts; one that makes no headway does not.
func TestHeadway(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 8<<16) // 8 MiB
	patient := quick
	patient.Stall = time.Minute // a busy machine may rest longer than quick's
	it := fetch.Item{Name: "big", Size: int64(len(big)), Digest: digest.Of([]byte(big))}
	src := &source{Name: "s", Answers: []answer{{Text: big, Cut: 1<<20 + 1, Break: errReset}}}
	it.Sources = []fetch.Source{src}
	if err := fetch.Fetch(t.Context(), []fetch.Item{it}, fetchtest.New(), patient); err != nil || len(src.Offsets) != 8 {
		t.Errorf("%d attempts, %v", len(src.Offsets), err)
	}
	again := &source{Name: "s", Answers: []answer{{Text: big, Cut: 1<<20 + 1, Break: errReset, Whole: true}}}
	it.Sources = []fetch.Source{again}
	if err := fetch.Fetch(t.Context(), []fetch.Item{it}, fetchtest.New(), patient); !errors.Is(err, errReset) || len(again.Offsets) != 5 {
		t.Errorf("%d attempts, %v", len(again.Offsets), err)
	}
}

func TestEvents(t *testing.T) {
	var kinds []fetch.EventKind
	var last fetch.Event
	o := quick
	o.Parallel = 1
	o.Events = func(e fetch.Event) {
		if e.Kind != fetch.Progress {
			kinds = append(kinds, e.Kind)
		}
		last = e
	}
	a := &source{Name: "a", Answers: []answer{{Err: errReset}, {Err: fs.ErrNotExist}}}
	b := &source{Name: "b", Answers: []answer{{Text: text}}}
	if err := fetch.Fetch(t.Context(), []fetch.Item{item(a, b)}, fetchtest.New(), o); err != nil {
		t.Fatal(err)
	}
	if want := []fetch.EventKind{fetch.Begin, fetch.Start, fetch.Retry, fetch.NextSource, fetch.Done}; !slices.Equal(kinds, want) {
		t.Errorf("got %q, expected %q", kinds, want)
	}
	if want := (fetch.Event{Kind: fetch.Done, Item: "pkg 1.0 amd64", Bytes: 22, Size: 22, Items: 1, ItemsDone: 1, Total: 22, TotalDone: 22}); !reflect.DeepEqual(last, want) {
		t.Errorf("last event %+v", last)
	}
}

func TestTotalsAfterTrouble(t *testing.T) {
	var last fetch.Event
	o := quick
	o.Events = func(e fetch.Event) { last = e }
	wrong := strings.ToUpper(text)
	items := []fetch.Item{item(&source{Name: "a", Answers: []answer{{Text: wrong}}},
		&source{Name: "b", Answers: []answer{{Text: text, Cut: 9}, {Text: text, Whole: true, Cut: 3}, {Text: text}}})}
	s := fetchtest.New()
	s.Begin(want, "other beginning")
	if err := fetch.Fetch(t.Context(), items, s, o); err != nil || last.TotalDone != 22 {
		t.Errorf("ended at %d bytes of 22: %v", last.TotalDone, err)
	}
}

func TestStreamLimit(t *testing.T) {
	s := fetchtest.New()
	p, _ := s.Partial(t.Context(), want)
	err := fetch.Stream(t.Context(), &source{Name: "s", Answers: []answer{{Text: text}}}, p, 10, quick)
	var limit *fetch.LimitError
	if !errors.As(err, &limit) || err.Error() != "more than 10 bytes" {
		t.Errorf("got %v", err)
	}
	if err := fetch.Stream(t.Context(), &source{Name: "s", Answers: []answer{{Text: text, Cut: 4, Break: io.ErrUnexpectedEOF}, {Text: text}}}, p, 22, quick); err != nil || p.Size() != 22 {
		t.Errorf("got %v, %d bytes", err, p.Size())
	}
}

// What is parsed while it comes begins anew when the source does, and a parser
// that has had enough ends the transfer.
func TestParse(t *testing.T) {
	all := func(r io.Reader) (string, error) {
		b, err := io.ReadAll(r)
		return string(b), err
	}
	first := func(r io.Reader) (string, error) {
		b := make([]byte, 3)
		_, err := io.ReadFull(r, b)
		return string(b), err
	}
	fails := func(r io.Reader) (string, error) { return "", errors.New("it is not what was wanted") }
	big := strings.Repeat("0123456789abcdef", 8<<16) // 8 MiB
	for _, test := range []struct {
		summary string
		answers []answer
		parse   func(io.Reader) (string, error)
		limit   int64
		want    string
		err     string
	}{
		{"at once", []answer{{Text: text}}, all, 22, text, ""},
		{"goes on", []answer{{Text: text, Cut: 5, Break: errReset}, {Text: text}}, all, 22, text, ""},
		{"begins anew", []answer{{Text: strings.ToUpper(text), Cut: 5, Break: errReset}, {Text: text, Whole: true}}, all, 22, text, ""},
		{"the rest is not looked at", []answer{{Text: text}}, first, 22, text[:3], ""},
		{"too long", []answer{{Text: text}}, all, 21, "", "more than 21 bytes"},
		{"too long, where nobody looks", []answer{{Text: text}}, first, 21, "", "more than 21 bytes"},
		{"not there", []answer{{Err: fs.ErrNotExist}}, all, 22, "", "file does not exist"},
		{"not what was wanted", []answer{{Text: big}}, fails, 8 << 20, "", "it is not what was wanted"},
		{"empty", []answer{{Text: ""}}, first, 22, "", "EOF"},
	} {
		src := &source{Name: "s", Answers: test.answers}
		got, err := fetch.Parse(t.Context(), src, test.limit, quick, test.parse)
		if got != test.want || test.err == "" && err != nil || test.err != "" && (err == nil || err.Error() != test.err) {
			t.Errorf("%s: got %q, %v, expected %q, %s", test.summary, got, err, test.want, test.err)
		}
	}
}
