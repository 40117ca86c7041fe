package nft

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// String gives the table in nft's syntax: nft -f loads it, and a person can
// read it.
func (t Table) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table %s %s {\n", t.Family, t.Name)
	first := true
	gap := func() {
		if !first {
			b.WriteByte('\n')
		}
		first = false
	}
	for _, c := range t.Counters {
		first = false
		fmt.Fprintf(&b, "\tcounter %s {\n\t}\n", c)
	}
	for _, s := range t.Sets {
		gap()
		s.write(&b)
	}
	for _, c := range t.Chains {
		gap()
		c.write(&b)
	}
	b.WriteString("}\n")
	return b.String()
}

func (s Set) write(b *strings.Builder) {
	kind := "set"
	types := typesText(s.Key)
	if len(s.Value) > 0 {
		kind = "map"
		types += " : " + typesText(s.Value)
	}
	word := "type"
	if s.Key[0].typeof() {
		word = "typeof"
	}
	fmt.Fprintf(b, "\t%s %s {\n\t\t%s %s\n", kind, s.Name, word, types)
	if s.Dynamic {
		fmt.Fprintf(b, "\t\tsize %d\n\t\tflags dynamic", s.Size)
		if s.Timeout > 0 {
			fmt.Fprintf(b, ",timeout\n\t\ttimeout %ds", int(s.Timeout.Seconds()))
		}
		b.WriteString("\n")
	}
	if s.Interval {
		b.WriteString("\t\tflags interval\n")
	}
	for i, e := range sortedElements(s.Elements) {
		lead := "\t\telements = { "
		if i > 0 {
			lead = ",\n\t\t             "
		}
		b.WriteString(lead + e.String())
	}
	if len(s.Elements) > 0 {
		b.WriteString(" }\n")
	}
	b.WriteString("\t}\n")
}

func sortedElements(es []Element) []Element {
	es = slices.Clone(es)
	slices.SortStableFunc(es, func(a, b Element) int {
		return slices.CompareFunc(a.Key, b.Key, func(v, w Value) int { return bytes.Compare(v.lo, w.lo) })
	})
	return es
}

// String gives the element in nft's syntax.
func (e Element) String() string {
	s := valuesText(e.Key)
	if len(e.Value) > 0 {
		s += " : " + valuesText(e.Value)
	}
	return s
}

func valuesText(vs []Value) string {
	words := make([]string, len(vs))
	for i, v := range vs {
		words[i] = v.text
	}
	return strings.Join(words, " . ")
}

func typesText(ts []Type) string {
	words := make([]string, len(ts))
	for i, t := range ts {
		words[i] = t.name
	}
	return strings.Join(words, " . ")
}

func (c Chain) write(b *strings.Builder) {
	fmt.Fprintf(b, "\tchain %s {\n", c.Name)
	if h := c.Hook; h != nil {
		policy := "accept"
		if h.Drop {
			policy = "drop"
		}
		device := ""
		if h.Device != "" {
			device = " device " + strconv.Quote(h.Device)
		}
		fmt.Fprintf(b, "\t\ttype %s hook %s%s priority %d; policy %s;\n", h.Type, h.At, device, h.Priority, policy)
	}
	for _, r := range c.Rules {
		fmt.Fprintf(b, "\t\t%s\n", r)
	}
	b.WriteString("\t}\n")
}

// String gives the rule in nft's syntax.
func (r Rule) String() string {
	words := make([]string, 0, len(r.Stmts)+1)
	for _, s := range r.Stmts {
		words = append(words, s.text)
	}
	if r.Comment != "" {
		words = append(words, "comment "+strconv.Quote(r.Comment))
	}
	return strings.Join(words, " ")
}
