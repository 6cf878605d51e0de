package diff

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

const (
	// maxSqlitePages bounds the pages that are compared one by one, maxSqliteRows and maxSqliteBytes
	// what is held of rows; larger databases are compared by pages only.
	maxSqlitePages = 100_000
	maxSqliteRows  = 200_000
	maxSqliteBytes = 8 << 20
	// maxSqliteDepth bounds the height of a tree; 20 levels hold more than a file can.
	maxSqliteDepth = 20
	// maxRowFindings bounds the rows that are said one by one.
	maxRowFindings = 100
)

// sqliteFields are the fields of the database header (sqlite.org/fileformat2.html, section 1.3).
var sqliteFields = []struct {
	size   int64
	name   string
	effect bool
}{
	{16, "magic", false}, {2, "page size", false}, {1, "write version", false}, {1, "read version", false}, {1, "reserved", false}, {3, "fractions", false},
	{4, "change counter", false}, {4, "pages", true}, {4, "first free page", false}, {4, "free pages", false}, {4, "schema cookie", false},
	{4, "schema format", false}, {4, "cache size", false}, {4, "largest root", false}, {4, "encoding", false}, {4, "user version", false},
	{4, "incremental vacuum", false}, {4, "application id", false}, {20, "expansion", false}, {4, "version-valid-for", false}, {4, "SQLITE_VERSION_NUMBER", false},
}

// takeSqlite cuts a database into its header and pages, and reads its rows.
func takeSqlite(s source) *anatomy {
	b := s.head(100)
	if len(b) < 100 {
		return nil
	}
	size := int64(binary.BigEndian.Uint16(b[16:]))
	if size == 1 {
		size = 65536
	}
	if size < 512 || size&(size-1) != 0 || s.size/size > maxSqlitePages {
		return nil
	}
	t := &taking{s: s}
	t.group("header", "", "")
	for _, f := range sqliteFields {
		value := ""
		if f.size == 4 {
			value = fmt.Sprint(binary.BigEndian.Uint32(t.peek(4)))
		}
		t.add(f.size, cut{what: WhatSqlite, where: f.name, value: value, effect: f.effect})
	}
	for i := int64(1); t.left() > 0 && !t.full(); i++ {
		where := fmt.Sprintf("page %d", i)
		t.group(where, "", "")
		t.add(min(i*size, s.size)-t.at, cut{what: WhatSqlitePage, where: where, mode: modeBytes, fold: true})
	}
	issue := ""
	// The number of pages is not that of the file's last writer when the two counters differ.
	if pages := int64(binary.BigEndian.Uint32(b[28:])); pages > 0 && string(b[24:28]) == string(b[92:96]) && s.size < pages*size {
		issue = fmt.Sprintf("ends within page %d of %d", s.size/size+1, pages)
	}
	a := t.done(issue)
	a.data = s
	a.after = sqliteRows
	return a
}

// RowsEqual is the note of pages of a database whose rows are the same on both sides.
const RowsEqual = "the rows are equal"

const rowsUnread = "the rows cannot be read on both sides, or are too many"

// sqliteRows compares what two databases say. Rows own no bytes: their pages do, and
// follow from them when they differ.
func sqliteRows(c *comparer, n *Node, other *anatomy) {
	x, errA := readSqlite(n.A.src)
	y, errB := readSqlite(n.B.src)
	if errA != nil || errB != nil {
		for i := range n.Findings {
			if n.Findings[i].What == WhatSqlitePage {
				n.Findings[i].Note = rowsUnread
			}
		}
		return
	}
	before := len(n.Findings)
	more := 0
	say := func(f Finding) {
		if len(n.Findings)-before >= maxRowFindings {
			more++
			return
		}
		c.add(n, f)
	}
	p := pair(len(x), len(y), func(i int) string { return x[i].key() }, func(j int) string { return y[j].key() })
	for i, j := range p.a {
		if j < 0 {
			say(Finding{What: WhatSqliteRow, Where: x[i].where(), A: x[i].values()})
		} else if string(x[i].payload) != string(y[j].payload) {
			say(Finding{What: WhatSqliteRow, Where: x[i].where(), A: x[i].values(), B: y[j].values()})
		}
	}
	for j, i := range p.b {
		if i < 0 {
			say(Finding{What: WhatSqliteRow, Where: y[j].where(), B: y[j].values()})
		}
	}
	if len(n.Findings) == before {
		for i := range n.Findings {
			if n.Findings[i].What == WhatSqlitePage {
				n.Findings[i].Note = RowsEqual
			}
		}
		return
	}
	n.Findings[len(n.Findings)-1].More += more
	for i := range n.Findings[:before] {
		if f := &n.Findings[i]; f.What == WhatSqlitePage {
			f.Effect = true
		}
	}
}

// sqliteRow is one row of a table.
type sqliteRow struct {
	table   string
	rowid   int64
	payload []byte
}

func (r *sqliteRow) key() string { return r.table + "\x00" + strconv.FormatInt(r.rowid, 10) }

func (r *sqliteRow) where() string { return fmt.Sprintf("%s rowid %d", r.table, r.rowid) }

func (r *sqliteRow) values() string {
	cols, err := sqliteRecord(r.payload)
	if err != nil {
		return show(r.payload)
	}
	return clip(strings.Join(cols, " | "))
}

var errSqlite = errors.New("not a sound database")

// sqliteReader walks the trees of a database without trusting any number in it.
type sqliteReader struct {
	s        source
	page     int64
	usable   int64
	rows     []sqliteRow
	bytes    int
	seen     map[int64]bool // pages of trees: a page in two places is a lie, and a cycle
	overflow int
}

// readSqlite returns all rows of all tables, the schema's first.
func readSqlite(s source) ([]sqliteRow, error) {
	b := s.head(100)
	if len(b) < 100 {
		return nil, errSqlite
	}
	r := &sqliteReader{s: s, page: int64(binary.BigEndian.Uint16(b[16:])), seen: map[int64]bool{}}
	if r.page == 1 {
		r.page = 65536
	}
	r.usable = r.page - int64(b[20])
	if r.page < 512 || r.usable < 480 {
		return nil, errSqlite
	}
	if err := r.tree("sqlite_schema", 1, 0); err != nil {
		return nil, err
	}
	schema := r.rows
	for i := range schema {
		cols, err := sqliteRecord(schema[i].payload)
		if err != nil || len(cols) < 5 {
			return nil, errSqlite
		}
		root, err := strconv.ParseInt(cols[3], 10, 64)
		if cols[0] != "table" || err != nil || root == 0 {
			continue
		}
		if err := r.tree(cols[1], root, 0); err != nil {
			return nil, err
		}
	}
	return r.rows, nil
}

// tree collects the rows of a table's tree (sections 1.6 and 2.3 of the format). Tables
// without rowid are index trees; their rows are numbered.
func (r *sqliteReader) tree(table string, number int64, depth int) error {
	if depth > maxSqliteDepth || number < 1 || r.seen[number] {
		return errSqlite
	}
	r.seen[number] = true
	p, err := r.s.slice((number-1)*r.page, r.page)
	if err != nil {
		return errSqlite
	}
	h := 0
	if number == 1 {
		h = 100
	}
	kind, cells := p[h], int(binary.BigEndian.Uint16(p[h+3:]))
	array := h + 8
	if kind == 2 || kind == 5 {
		array = h + 12
	}
	if kind != 2 && kind != 5 && kind != 10 && kind != 13 || array+2*cells > len(p) {
		return errSqlite
	}
	for i := range cells {
		at := int(binary.BigEndian.Uint16(p[array+2*i:]))
		if at >= len(p) {
			return errSqlite
		}
		if err := r.cell(table, kind, p, at, depth); err != nil {
			return err
		}
	}
	if kind == 2 || kind == 5 {
		return r.tree(table, int64(binary.BigEndian.Uint32(p[h+8:])), depth+1)
	}
	return nil
}

func (r *sqliteReader) cell(table string, kind byte, p []byte, at, depth int) error {
	if kind == 2 || kind == 5 {
		if at+4 > len(p) {
			return errSqlite
		}
		if err := r.tree(table, int64(binary.BigEndian.Uint32(p[at:])), depth+1); err != nil {
			return err
		}
		if at += 4; kind == 5 {
			return nil // its rowid is that of a leaf
		}
	}
	size, n := varint(p[at:])
	at += n
	row := sqliteRow{table: table, rowid: int64(len(r.rows))}
	if kind == 13 {
		id, m := varint(p[at:])
		row.rowid, n = id, m
		at += m
	}
	if n == 0 || size < 0 || size > maxSqliteBytes {
		return errSqlite
	}
	if r.bytes += int(size); len(r.rows) >= maxSqliteRows || r.bytes > maxSqliteBytes {
		return errors.New("too many rows")
	}
	local := r.local(size, kind == 13)
	if at+int(local) > len(p) {
		return errSqlite
	}
	row.payload = append(make([]byte, 0, size), p[at:at+int(local)]...)
	if local < size {
		if at+int(local)+4 > len(p) {
			return errSqlite
		}
		next := int64(binary.BigEndian.Uint32(p[at+int(local):]))
		var err error
		if row.payload, err = r.follow(row.payload, next, size); err != nil {
			return err
		}
	}
	r.rows = append(r.rows, row)
	return nil
}

// local is how many bytes of a payload stand in its cell (section 1.6).
func (r *sqliteReader) local(size int64, table bool) int64 {
	most := (r.usable-12)*64/255 - 23
	if table {
		most = r.usable - 35
	}
	if size <= most {
		return size
	}
	least := (r.usable-12)*32/255 - 23
	if k := least + (size-least)%(r.usable-4); k <= most {
		return k
	}
	return least
}

// follow reads the overflow pages of a payload.
func (r *sqliteReader) follow(payload []byte, next, size int64) ([]byte, error) {
	for int64(len(payload)) < size {
		if r.overflow++; next < 1 || r.overflow > maxSqlitePages {
			return nil, errSqlite
		}
		p, err := r.s.slice((next-1)*r.page, r.page)
		if err != nil {
			return nil, errSqlite
		}
		next = int64(binary.BigEndian.Uint32(p))
		payload = append(payload, p[4:4+min(r.usable-4, size-int64(len(payload)))]...)
	}
	return payload, nil
}

// varint reads one of SQLite's integers of 1 to 9 bytes; n is 0 when it does not end.
func varint(b []byte) (v int64, n int) {
	for i := 0; i < len(b) && i < 9; i++ {
		if i == 8 {
			return v<<8 | int64(b[i]), 9
		}
		v = v<<7 | int64(b[i]&0x7f)
		if b[i] < 0x80 {
			return v, i + 1
		}
	}
	return 0, 0
}

// sqliteRecord reads the columns of a record (section 2.1) as text.
func sqliteRecord(b []byte) ([]string, error) {
	head, n := varint(b)
	if n == 0 || head < int64(n) || head > int64(len(b)) {
		return nil, errSqlite
	}
	types, body := b[n:head], b[head:]
	var out []string
	for len(types) > 0 {
		kind, n := varint(types)
		if n == 0 || kind < 0 {
			return nil, errSqlite
		}
		types = types[n:]
		size := int64(0)
		switch {
		case kind >= 12:
			size = (kind - 12) / 2
		case kind == 5:
			size = 6
		case kind == 6 || kind == 7:
			size = 8
		case kind <= 4:
			size = kind
		}
		if size > int64(len(body)) {
			return nil, errSqlite
		}
		out = append(out, sqliteValue(kind, body[:size]))
		body = body[size:]
	}
	return out, nil
}

func sqliteValue(kind int64, b []byte) string {
	switch {
	case kind == 0:
		return "NULL"
	case kind == 8:
		return "0"
	case kind == 9:
		return "1"
	case kind == 7:
		return strconv.FormatFloat(math.Float64frombits(binary.BigEndian.Uint64(b)), 'g', -1, 64)
	case kind >= 13 && kind%2 == 1:
		return string(b)
	case kind >= 12:
		return "x'" + hexPlain(b[:min(len(b), 64)]) + "'"
	}
	v := int64(0)
	for i, c := range b {
		if i == 0 {
			v = int64(int8(c))
			continue
		}
		v = v<<8 | int64(c)
	}
	return strconv.FormatInt(v, 10)
}
