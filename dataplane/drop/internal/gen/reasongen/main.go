// Command reasongen writes the files that are made from the list of drop
// reasons. It is run by "go generate" in dataplane/drop.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/hnvgate/hnvgate/dataplane/drop/internal/gen"
)

func main() {
	list := flag.String("list", "reasons.txt", "the list of reasons")
	goFile := flag.String("go", "drop_gen.go", "the Go file to write")
	cFile := flag.String("c", "", "the C header to write")
	docFile := flag.String("doc", "", "the Markdown file to write")
	flag.Parse()
	if err := run(*list, *goFile, *cFile, *docFile); err != nil {
		fmt.Fprintln(os.Stderr, "reasongen:", err)
		os.Exit(1)
	}
}

func run(list, goFile, cFile, docFile string) error {
	f, err := os.Open(list)
	if err != nil {
		return err
	}
	defer f.Close()
	reasons, err := gen.Parse(f)
	if err != nil {
		return fmt.Errorf("%s: %w", list, err)
	}
	src, err := gen.Go(reasons)
	if err != nil {
		return fmt.Errorf("format %s: %w", goFile, err)
	}
	if err := os.WriteFile(goFile, src, 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(cFile, gen.C(reasons), 0o644); err != nil {
		return err
	}
	return os.WriteFile(docFile, gen.Markdown(reasons), 0o644)
}
