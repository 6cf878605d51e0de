package definition

import (
	"bytes"
	"encoding/json"

	y "quorate.dev/lockfile/strictyaml"
)

// Schema returns the JSON Schema (2020-12) of a definition, for editors. It
// comes from the table that Parse reads by, so both know the same fields; what
// holds between fields (a copy's from must exist) only Parse checks. The bytes
// are always the same.
func Schema() []byte {
	schema := *root().Schema()
	schema.Dialect = y.Dialect
	schema.ID = "urn:quorate:definition:v1"
	schema.Title = FileName
	schema.Description = "What image Quorate builds, from what."
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(schema); err != nil {
		panic(err) // only plain structs and strings are encoded
	}
	return b.Bytes()
}
