package report

import (
	"fmt"
	"html/template"
	"math"
	"path"
	"sort"
	"strings"

	"quorate.dev/diff/cause"
)

// The map is drawn twice, in rectangles of these units, which the browser scales: one for a screen
// and one for a phone, where the first would be too small to read.
var (
	wideMap = [2]float64{1000, 320}
	tallMap = [2]float64{380, 420}
)

const mapTiles = 120 // more would be too small to see; the rest is summed up

// tile is a rectangle of the map.
type tile struct {
	X, Y, W, H float64
	Label      string
	Title      string
	Cause      int // number of its first cause; 0 unexplained, -1 a folder
	area       float64
	key        string // of a folder: whose files it holds
}

// tiles lays out where the differences lie: layers, in them folders' files, each as
// large as the logarithm of its differing bytes, so that a one-byte file can be seen beside a large one.
func tiles(areas []cause.Area, size [2]float64) []tile {
	groups := map[string][]tile{}
	var names []string
	for i, a := range areas {
		if i == mapTiles {
			break
		}
		first := 0
		if len(a.Causes) > 0 {
			first = a.Causes[0]
		}
		key := a.Layer
		if key == "" {
			key = strings.SplitN(strings.TrimPrefix(a.Path, "/"), "/", 2)[0]
		}
		if _, ok := groups[key]; !ok {
			names = append(names, key)
		}
		title := fmt.Sprintf("%s: %s differing", visible(a.Path, 200), plural(int(a.Bytes), "byte"))
		if a.Layer != "" {
			title = visible(a.Layer, 60) + " → " + title
		}
		groups[key] = append(groups[key], tile{
			Label: visible(path.Base(a.Path), 40), Title: title, Cause: first, area: 2 + math.Log2(float64(max(a.Bytes, 1))+1),
		})
	}
	sort.Strings(names)
	var outer []tile
	for _, n := range names {
		sum := 0.0
		for _, t := range groups[n] {
			sum += t.area
		}
		outer = append(outer, tile{Label: visible(n, 40), Title: visible(n, 200), Cause: -1, area: sum, key: n})
	}
	sort.SliceStable(outer, func(i, j int) bool { return outer[i].area > outer[j].area })
	squarify(outer, 0, 0, size[0], size[1])
	var all []tile
	for _, o := range outer {
		all = append(all, o)
		head := 18.0 // for the folder's name
		if o.H < 40 || len(outer) == 1 && o.Label == "" {
			head = 0
		}
		inner := groups[o.key]
		sort.SliceStable(inner, func(i, j int) bool { return inner[i].area > inner[j].area })
		squarify(inner, o.X+2, o.Y+head, max(1, o.W-4), max(1, o.H-head-2))
		all = append(all, inner...)
	}
	return all
}

// squarify fills a rectangle with tiles as near to squares as it can (Bruls, Huizing
// and van Wijk, 2000): rows along the shorter side, each ended when one more tile
// would make its worst tile worse. The tiles come sorted, largest first.
func squarify(tiles []tile, x, y, w, h float64) {
	total := 0.0
	for _, t := range tiles {
		total += t.area
	}
	if total == 0 {
		return
	}
	scale := w * h / total
	for i := 0; i < len(tiles); {
		side := min(w, h)
		sum, worst, j := 0.0, math.Inf(1), i
		for ; j < len(tiles); j++ {
			s := sum + tiles[j].area*scale
			large, small := tiles[i].area*scale, tiles[j].area*scale
			now := max(side*side*large/(s*s), s*s/(side*side*small))
			if now > worst {
				break
			}
			sum, worst = s, now
		}
		thick, at := sum/side, 0.0
		for k := i; k < j; k++ {
			length := tiles[k].area * scale / thick
			if w >= h {
				tiles[k].X, tiles[k].Y, tiles[k].W, tiles[k].H = x, y+at, thick, length
			} else {
				tiles[k].X, tiles[k].Y, tiles[k].W, tiles[k].H = x+at, y, length, thick
			}
			at += length
		}
		if w >= h {
			x, w = x+thick, w-thick
		} else {
			y, h = y+thick, h-thick
		}
		i = j
	}
}

// treemap draws the map as SVG. Every text is escaped by html/template.
func treemap(areas []cause.Area, size [2]float64) (template.HTML, error) {
	if len(areas) == 0 {
		return "", nil
	}
	var b strings.Builder
	err := mapTemplate.Execute(&b, map[string]any{"Width": size[0], "Height": size[1], "Tiles": tiles(areas, size), "Tall": size == tallMap})
	return template.HTML(b.String()), err //nolint:gosec // made by the template above
}

var mapTemplate = template.Must(template.New("map").Funcs(template.FuncMap{
	"n":     func(f float64) string { return fmt.Sprintf("%.1f", f) },
	"plus":  func(a, b float64) string { return fmt.Sprintf("%.1f", a+b) },
	"hue":   hue,
	"fits":  func(t tile) bool { return t.W > 46 && t.H > 16 },
	"chars": func(t tile) string { return visible(t.Label, max(2, int(t.W/7.4))) },
}).Parse(`<svg class="{{if .Tall}}tall{{else}}broad{{end}}" viewBox="0 0 {{n .Width}} {{n .Height}}" role="img" aria-label="where the differences lie" preserveAspectRatio="none">
{{- range .Tiles}}{{if eq .Cause -1}}
<g><title>{{.Title}}</title><rect class="folder" x="{{n .X}}" y="{{n .Y}}" width="{{n .W}}" height="{{n .H}}"/>{{if and (fits .) (ge .H 40.0)}}<text class="name" x="{{plus .X 5}}" y="{{plus .Y 13}}">{{chars .}}</text>{{end}}</g>
{{- else}}
<a href="{{if .Cause}}#cause-{{.Cause}}{{else}}#unexplained{{end}}"><title>{{.Title}}</title><rect class="{{if .Cause}}c{{hue .Cause}}{{else}}none{{end}}" x="{{plus .X 1}}" y="{{plus .Y 1}}" width="{{plus .W -2}}" height="{{plus .H -2}}" rx="3"/>{{if fits .}}<text x="{{plus .X 6}}" y="{{plus .Y 14}}">{{chars .}}</text>{{end}}</a>
{{- end}}{{end}}
</svg>`))

// hues are how many colours page.css has.
const hues = 8

func hue(number int) int { return (number - 1) % hues }
