package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"quorate.dev/builder/store"
)

func storeCmd(ui *terminal) *cobra.Command {
	return group(&cobra.Command{
		Use:   "store",
		Short: "Look after the store, where fetched and built bytes lie by digest",
		Long: `The store is a folder that holds bytes by digest: fetched inputs, images, and
what can be made again from them. It is $` + storeVar + `, or else quorate/store
in the user's cache folder. Several processes may use it at once, and all of it
may be removed at any time that none does.`,
	}, storeGCCmd(ui), storeVerifyCmd(ui), storePathCmd(ui))
}

// gcAnswer is what `quorate store gc --json` answers.
type gcAnswer struct {
	Removed []gcRemoved `json:"removed"` // least recently used first; never null
	Freed   int64       `json:"freed"`   // bytes
	Kept    int         `json:"kept"`
	Left    int64       `json:"left"` // bytes
	DryRun  bool        `json:"dryRun,omitempty"`
}

type gcRemoved struct {
	Path    string    `json:"path"` // relative to the store
	Size    int64     `json:"size"`
	LastUse time.Time `json:"lastUse"`
}

func storeGCCmd(ui *terminal) *cobra.Command {
	var (
		olderThan, maxSize string
		dryRun, asJSON     bool
	)
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Remove what was not used for long",
		Long: `Gc removes from the store what was not used for --older-than, and then, least
recently used first, as much as it takes to be no larger than --max-size. Locked
inputs are fetched again when they are needed. Nothing is removed while another
process uses the store.` +
			exitStatus("done", "", "the store is in use, or cannot be changed"),
		Example: `  quorate store gc
  quorate store gc --older-than 7d --max-size 20GB
  quorate store gc --older-than 0 --dry-run`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o := store.GCOptions{DryRun: dryRun}
			var err error
			if o.OlderThan, err = parseAge(olderThan); err != nil {
				return &usageError{err: fmt.Errorf("--older-than: %w", err), command: cmd.CommandPath()}
			}
			if o.MaxBytes, err = parseSize(maxSize); err != nil {
				return &usageError{err: fmt.Errorf("--max-size: %w", err), command: cmd.CommandPath()}
			}
			m, err := openMachine(ui)
			if err != nil {
				return err
			}
			defer m.close()
			r, err := m.store.GC(cmd.Context(), o)
			if err != nil {
				return err
			}
			if asJSON {
				ui.answerJSON(describeGC(r, dryRun))
				return nil
			}
			verb := "removed"
			if dryRun {
				verb = "would remove"
			}
			ui.answer("%s %s, %s; left %s, %s", verb, count(len(r.Removed), "thing"), size(r.Freed), count(r.Kept, "thing"), size(r.Left))
			return nil
		},
	}
	cmd.Flags().StringVar(&olderThan, "older-than", "30d", "remove what was not used for so long: 12h, 30d; 0 for everything")
	cmd.Flags().StringVar(&maxSize, "max-size", "", "then remove the least recently used until the store is so small: 500MB, 20GB")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would go")
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer in JSON")
	return cmd
}

func describeGC(r store.GCReport, dryRun bool) gcAnswer {
	a := gcAnswer{Removed: []gcRemoved{}, Freed: r.Freed, Kept: r.Kept, Left: r.Left, DryRun: dryRun}
	for _, e := range r.Removed {
		a.Removed = append(a.Removed, gcRemoved{Path: e.Path, Size: e.Size, LastUse: e.LastUse.UTC()})
	}
	return a
}

// parseAge reads a duration that may be in days: "30d", "12h30m". Zero, which
// means that every age is old enough, becomes the shortest age there is.
func parseAge(s string) (time.Duration, error) {
	const most = 100 * 365 // days; a longer age removes nothing, and is a typing error
	bad := fmt.Errorf("bad age %q: expected something like 12h or 30d", s)
	var age time.Duration
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseFloat(days, 64)
		if err != nil || !(n >= 0 && n <= most) {
			return 0, bad
		}
		age = time.Duration(n * 24 * float64(time.Hour))
	} else if s != "0" {
		var err error
		if age, err = time.ParseDuration(s); err != nil || age < 0 || age > most*24*time.Hour {
			return 0, bad
		}
	}
	return max(age, 1), nil
}

// sizeUnits are bytes per unit, powers of ten and of two as their names say.
var sizeUnits = []struct {
	name  string
	bytes float64
}{
	{"kiB", 1 << 10}, {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1}, {"", 1},
}

// parseSize reads a number of bytes: "20GB", "1.5 GiB", "4096"; 0 for none.
func parseSize(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	for _, u := range sizeUnits {
		number, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || !(n > 0 && n*u.bytes < math.MaxInt64) {
			break
		}
		return max(int64(n*u.bytes), 1), nil
	}
	return 0, fmt.Errorf("bad size %q: expected something like 500MB or 20GB", s)
}

// storeVerifyAnswer is what `quorate store verify --json` answers.
type storeVerifyAnswer struct {
	Blobs   int      `json:"blobs"`
	Bytes   int64    `json:"bytes"`
	Damaged []string `json:"damaged"` // digests, set aside; never null
	Strange []string `json:"strange"` // file names that are no blob's; never null
}

func storeVerifyCmd(ui *terminal) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Read every blob again and set damaged ones aside",
		Long: `Verify reads every blob of the store and compares it with its digest. Damaged
ones are set aside, listed, and fetched again when they are needed. A build does
not need this: it checks whatever it reads.` +
			exitStatus("every blob is whole", "some were damaged", "the store cannot be read"),
		Example: `  quorate store verify
  quorate store verify --json`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			m, err := openMachine(ui)
			if err != nil {
				return err
			}
			defer m.close()
			show := event{Key: "verify", Text: "verify", Bytes: true}
			r, err := m.store.Verify(cmd.Context(), func(done, total int64) {
				show.Current, show.Total = done, total
				ui.report(show)
			})
			if err != nil {
				return err
			}
			return answerVerified(ui, r, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer in JSON")
	return cmd
}

func answerVerified(ui *terminal, r store.VerifyReport, asJSON bool) error {
	a := storeVerifyAnswer{Blobs: r.Blobs, Bytes: r.Bytes, Damaged: []string{}, Strange: append([]string{}, r.Strange...)}
	for _, d := range r.Damaged {
		a.Damaged = append(a.Damaged, d.String())
	}
	for _, name := range a.Strange {
		ui.warn("%q in the store is no blob; left alone", name)
	}
	if asJSON {
		ui.answerJSON(a)
	} else {
		for _, d := range a.Damaged {
			ui.answer("damaged %s", d)
		}
		ui.answer("%s, %s, %d damaged", count(a.Blobs, "blob"), size(a.Bytes), len(a.Damaged))
	}
	if len(a.Damaged) > 0 {
		return different(nil)
	}
	return nil
}

func storePathCmd(ui *terminal) *cobra.Command {
	return &cobra.Command{
		Use:   "path",
		Short: "Print the store's folder",
		Long: `Path prints the folder of the store, whether it is there yet or not: $` + storeVar + `,
or else quorate/store in the user's cache folder.` +
			exitStatus("printed", "", "there is no place for it"),
		Example: "  du -sh \"$(quorate store path)\"",
		Args:    takes(),
		RunE: func(*cobra.Command, []string) error {
			dir, err := storeDir()
			if err != nil {
				return err
			}
			ui.answer("%s", dir)
			return nil
		},
	}
}
