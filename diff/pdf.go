package diff

import (
	"bytes"
	"fmt"
	"io"
	"regexp"

	"github.com/klauspost/compress/zlib"
)

// maxPdf bounds the files that are searched for marks; larger ones are compared as bytes.
const maxPdf = maxLoad

// pdfMarks are what builds write into PDFs; the second group is the value.
var pdfMarks = []struct {
	what  string
	mark  *regexp.Regexp
	where string
}{
	{WhatPdfDate, regexp.MustCompile(`/(CreationDate|ModDate)\s*\(([^)]{0,64})\)`), ""},
	{WhatPdfInfo, regexp.MustCompile(`/(Producer|Creator|Author|Title)\s*\(([^)]{0,200})\)`), ""},
	{WhatPdfID, regexp.MustCompile(`/(ID)\s*\[\s*((?:<[0-9A-Fa-f\s]{0,200}>|\([^)]{0,100}\))\s*(?:<[0-9A-Fa-f\s]{0,200}>|\([^)]{0,100}\)))`), ""},
	{WhatPdfDate, regexp.MustCompile(`<(xmp:CreateDate|xmp:ModifyDate|xmp:MetadataDate|pdf:CreationDate)>([^<]{0,64})<`), ""},
	{WhatPdfID, regexp.MustCompile(`<(xmpMM:DocumentID|xmpMM:InstanceID)>([^<]{0,100})<`), ""},
}

var (
	pdfStream = regexp.MustCompile(`stream\r?\n`)
	pdfXref   = regexp.MustCompile(`(?:^|\n)xref[\r\n]`)
	pdfStart  = regexp.MustCompile(`startxref\s+(\d+)`)
)

// takePdf cuts out what is known of a PDF: dates, identifiers, packed streams, the table of
// offsets. The objects between them are compared as bytes.
func takePdf(s source) *anatomy {
	if s.size > maxPdf {
		return nil
	}
	b, err := s.load()
	if err != nil {
		return nil
	}
	t := &scattered{s: s}
	for _, m := range pdfMarks {
		for i, at := range m.mark.FindAllSubmatchIndex(b, 1000) {
			where := string(b[at[2]:at[3]])
			t.add("body", "", "", int64(at[4]), int64(at[5]-at[4]), cut{what: m.what, where: where, key: fmt.Sprint(m.what, where, i)})
		}
	}
	if at := pdfXref.FindIndex(b); at != nil {
		end := len(b)
		if i := bytes.Index(b[at[0]:], []byte("trailer")); i >= 0 {
			end = at[0] + i
		}
		t.add("body", "", "", int64(at[0]), int64(end-at[0]), cut{what: WhatSize, where: "xref", effect: true, mode: modeBytes})
	}
	for _, at := range pdfStart.FindAllSubmatchIndex(b, 100) {
		t.add("body", "", "", int64(at[2]), int64(at[3]-at[2]), cut{what: WhatSize, where: "startxref", effect: true})
	}
	t.streams(b)
	return t.done()
}

// streams cuts the streams that are packed with zlib.
func (t *scattered) streams(b []byte) {
	end := -1 // of the stream at hand; searched for once, however many beginnings there are
	for i, at := range pdfStream.FindAllIndex(b, 20_000) {
		start := at[1]
		if start >= 9+at[1]-at[0] && bytes.HasSuffix(b[:at[0]], []byte("end")) {
			continue
		}
		if end < start {
			k := bytes.Index(b[start:], []byte("endstream"))
			if k < 0 {
				return
			}
			end = start + k
		}
		n := end - start
		dict := b[max(0, at[0]-400):at[0]]
		if k := bytes.LastIndex(dict, []byte(" obj")); k >= 0 {
			dict = dict[k:]
		}
		if n <= 0 || !bytes.Contains(dict, []byte("FlateDecode")) {
			continue
		}
		data := t.s.sub(int64(start), int64(n))
		t.add("body", "", "", int64(start), int64(n), cut{what: WhatPacked, where: fmt.Sprintf("stream %d", i), mode: modePacked, way: &way{method: "zlib",
			unpack: func() (io.Reader, error) { return zlib.NewReader(data.reader()) }}})
	}
}
