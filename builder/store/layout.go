package store

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// checkLayoutVersion reads an oci-layout file.
func checkLayoutVersion(b []byte) error {
	var v struct {
		Version string `json:"imageLayoutVersion"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return fmt.Errorf("its oci-layout file is not JSON: %w", err)
	}
	if v.Version != "1.0.0" {
		return fmt.Errorf("its oci-layout file has imageLayoutVersion %q, expected %q", v.Version, "1.0.0")
	}
	return nil
}

// readLimited reads a whole file that must not be longer than limit bytes.
func readLimited(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("file %q is longer than %d bytes", path, limit)
	}
	return b, nil
}
