package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"iter"

	"github.com/hnvgate/hnvgate/api/document"
)

// streamRows is after how many items a table's rows are written: so many are
// lined up with each other.
const streamRows = 1000

// stream writes a list item by item, in the form that show gives
// {"items": [...]}; nothing is written before the first item is there.
func stream[T any](c *cli, items iter.Seq2[T, error], t *table, row func(T) []string) error {
	w := bufio.NewWriter(c.out)
	var out streamer[T]
	switch c.format {
	case "json":
		out = &jsonStream[T]{w: w}
	case "yaml":
		out = &yamlStream[T]{w: w}
	default:
		out = &tableStream[T]{w: w, t: t, row: row}
	}
	for item, err := range items {
		if err == nil {
			err = out.add(item)
		}
		if err != nil {
			_ = w.Flush() // what came is worth seeing
			return err
		}
	}
	if err := out.end(); err != nil {
		return err
	}
	return w.Flush()
}

type streamer[T any] interface {
	add(item T) error
	end() error
}

type jsonStream[T any] struct {
	w *bufio.Writer
	n int
}

func (s *jsonStream[T]) add(item T) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("    ", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(item); err != nil {
		return err
	}
	between := ",\n    "
	if s.n == 0 {
		between = "{\n  \"items\": [\n    "
	}
	s.n++
	_, err := fmt.Fprint(s.w, between, string(bytes.TrimSuffix(b.Bytes(), []byte("\n"))))
	return err
}

func (s *jsonStream[T]) end() error {
	tail := "\n  ]\n}\n"
	if s.n == 0 {
		tail = "{\n  \"items\": []\n}\n"
	}
	_, err := io.WriteString(s.w, tail)
	return err
}

type yamlStream[T any] struct {
	w *bufio.Writer
	n int
}

func (s *yamlStream[T]) add(item T) error {
	b, err := document.Marshal([]T{item})
	if err != nil {
		return err
	}
	if s.n == 0 {
		fmt.Fprintln(s.w, "items:")
	}
	s.n++
	_, err = s.w.Write(b)
	return err
}

func (s *yamlStream[T]) end() error {
	if s.n == 0 {
		fmt.Fprintln(s.w, "items: []")
	}
	return nil
}

type tableStream[T any] struct {
	w   *bufio.Writer
	t   *table
	row func(T) []string
}

func (s *tableStream[T]) add(item T) error {
	s.t.add(s.row(item)...)
	if len(s.t.rows) == streamRows {
		s.t.write(s.w)
		return s.w.Flush()
	}
	return nil
}

func (s *tableStream[T]) end() error {
	s.t.write(s.w)
	return nil
}
