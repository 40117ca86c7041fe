package server

import (
	"bytes"
	"flag"
	"os"
	"testing"
)

var update = flag.Bool("update", false, "write docs/api/openapi.yaml and the golden files anew")

const openapiFile = "../../docs/api/openapi.yaml"

//go:generate go test -run TestOpenAPIDocumentIsCurrent -update .

func TestOpenAPIDocumentIsCurrent(t *testing.T) {
	got, err := New(nil, nil, nil, nil).OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(openapiFile, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(openapiFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is out of date: run go generate ./api/server", openapiFile)
	}
}
